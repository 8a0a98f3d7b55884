package tail

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// compressions are the endings that compressors give to names. Whether a file
// is compressed is decided by its content; names only tell what belongs
// together.
var compressions = []string{".gz", ".zst", ".bz2", ".xz"}

// uncompressed returns name without a compressor's ending.
func uncompressed(name string) string {
	for _, ext := range compressions {
		if s, ok := strings.CutSuffix(name, ext); ok {
			return s
		}
	}
	return name
}

// splitRotation splits the name of a rotated file into the name of its live
// file and the mark that rotation put there: mail.log.2.gz into mail.log and
// 2, mail.log-20261123 into mail.log and 20261123, mail.log.old into mail.log
// and old. With inner, the mark stands before the last extension instead
// (logrotate's "extension" directive): mail-20261123.log into mail.log and
// 20261123, mail.1.log into mail.log and 1.
func splitRotation(name string, inner bool) (live, mark string, ok bool) {
	name = uncompressed(name)
	if inner {
		ext := filepath.Ext(name)
		stem := strings.TrimSuffix(name, ext)
		i := dateStart(stem)
		if i < 0 {
			i = strings.LastIndexByte(stem, '.')
		}
		if ext == "" || isMark(ext[1:]) || i <= 0 || !isMark(stem[i+1:]) {
			return "", "", false
		}
		return stem[:i] + ext, stem[i+1:], true
	}
	for _, word := range []string{".old", "-old"} {
		if s, found := strings.CutSuffix(name, word); found && s != "" {
			return s, "old", true
		}
	}
	i := dateStart(name)
	if i < 0 {
		i = strings.LastIndexByte(name, '.')
	}
	if i <= 0 || !isMark(name[i+1:]) {
		return "", "", false
	}
	live = name[:i]
	if isMark(live[strings.LastIndexByte(live, '.')+1:]) {
		return "", "", false // 192.0.2.1 is an address
	}
	return live, name[i+1:], true
}

// rotationOf returns the mark of name if it is a rotation of the live file
// base.
func rotationOf(name, base string) (mark string, ok bool) {
	for _, inner := range []bool{false, true} {
		if live, mark, ok := splitRotation(name, inner); ok && live == base {
			return mark, true
		}
	}
	return "", false
}

// dateStart returns where the separator before a date at the end of name is, or
// -1. Only dates may follow a dash: mx-1 is more likely a name than a rotation.
// It is the longest such date, so that mail.log-20261123.1 is a rotation of
// mail.log.
func dateStart(name string) int {
	for i := 1; i < len(name)-1; i++ {
		if (name[i] == '.' || name[i] == '-' || name[i] == '_') && isMark(name[i+1:]) && isDate(name[i+1:]) {
			return i
		}
	}
	return -1
}

// isMark reports whether s can be a rotation's mark: a number, or a date or
// epoch with what stands between the parts of dates. An IP address is neither.
func isMark(s string) bool {
	rest := strings.TrimLeft(s, "0123456789")
	first := len(s) - len(rest)
	return first > 0 && (rest == "" || first >= 4 && strings.Trim(rest, "0123456789-_.:TZ") == "")
}

// isDate reports whether a mark is a date or an epoch, not a number.
func isDate(mark string) bool {
	n := 0
	for i := range len(mark) {
		if mark[i] >= '0' && mark[i] <= '9' {
			n++
		}
	}
	return n >= 6
}

// compareMarks orders the marks of one naming scheme from old to new: numbers
// count down, dates go up.
func compareMarks(a, b string) int {
	if isDate(a) {
		return compareDigits(a, b)
	}
	return compareDigits(number(b), number(a))
}

// number is the mark as a number: the only old file is as good as the first.
func number(mark string) string {
	if mark == "old" {
		return "1"
	}
	return mark
}

// compareDigits compares the runs of digits of a and b as numbers, one by one.
func compareDigits(a, b string) int {
	notDigit := func(r rune) bool { return r < '0' || r > '9' }
	return slices.CompareFunc(strings.FieldsFunc(a, notDigit), strings.FieldsFunc(b, notDigit), func(a, b string) int {
		a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	})
}

// isLeftover reports whether name looks like no log that anyone wants to
// follow: hidden, compressed, or left by an editor.
func isLeftover(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") || strings.HasSuffix(name, ".swp") ||
		strings.HasSuffix(name, ".tmp") || uncompressed(name) != name
}

// entry is one file of a stream, as it was when the folder was read.
type entry struct {
	path string
	mark string // empty for the live file
	info os.FileInfo
}

func (e entry) live() bool { return e.mark == "" }

// sortEntries orders the files of one stream from old to new, the live file
// last. Names decide, as they do for logrotate, because modification times do
// not survive every copy. Where numbers and dates are mixed, because the
// scheme was changed one day, the scheme whose newest file is older goes
// first.
func sortEntries(es []entry) {
	var newestDate, newestNumber int64
	for _, e := range es {
		switch t := modified(e.info); {
		case e.live():
		case isDate(e.mark):
			newestDate = max(newestDate, t)
		default:
			newestNumber = max(newestNumber, t)
		}
	}
	class := func(e entry) int {
		switch {
		case e.live():
			return 2
		case isDate(e.mark) == (newestDate > newestNumber):
			return 1
		default:
			return 0
		}
	}
	slices.SortStableFunc(es, func(a, b entry) int {
		return cmp.Or(cmp.Compare(class(a), class(b)), compareMarks(a.mark, b.mark), cmp.Compare(b.path, a.path))
	})
}
