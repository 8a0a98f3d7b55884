package classifier

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/bouncemeter/bouncemeter/event"
)

// maxText bounds how much of a reply is read. RFC 5321 section 4.5.3.1.5 allows
// 512 bytes a line; multi-line replies and non-delivery reports are longer, but
// say why early.
const maxText = 4096

// Masks stand in the normalised text for what differs from message to message.
// They are upper case and so never equal a word of the text.
const (
	maskAddress = "ADDR"
	maskIP      = "IP"
	maskHost    = "HOST"
	maskNumber  = "N"
	maskStop    = "." // the end of a sentence
)

// text is a reply made ready for matching. Its memory is reused.
type text struct {
	buf []byte // the words, each after a space
	// code and enhanced are the innermost ones that the text itself states.
	code     uint16
	enhanced event.Enhanced
	stage    event.Stage // told by a wrapper, or StageUnknown

	strong  bool // enhanced stood where a code belongs
	scratch []byte
	raw     []byte // the reply, if it had to be changed
	last    string // the mask that was written last, "" after a word
}

func (t *text) reset() {
	t.buf, t.scratch = t.buf[:0], t.scratch[:0]
	t.code, t.enhanced, t.stage, t.strong, t.last = 0, event.Enhanced{}, event.StageUnknown, false, ""
}

// Character classes of raw bytes.
const (
	letter = 1 << iota // ASCII letters and all bytes from 0x80
	digit
	inner // may stand inside of a word, an address, a host name or an id
	sentence
)

var class = func() (t [256]uint8) {
	for c := range t {
		switch {
		case c|0x20 >= 'a' && c|0x20 <= 'z' || c >= 0x80:
			t[c] = letter
		case c >= '0' && c <= '9':
			t[c] = digit
		}
	}
	for _, c := range []byte(".@_+=~%&:-'?") {
		t[c] |= inner
	}
	for _, c := range []byte(".!;?") {
		t[c] |= sentence
	}
	return t
}()

var lower = func() (t [256]byte) {
	for c := range t {
		t[c] = byte(c)
		if c >= 'A' && c <= 'Z' {
			t[c] |= 0x20
		}
	}
	return t
}()

// normalise reads raw into t. keep tells which words with digits and which
// dotted names the rules know and must not be masked.
func (t *text) normalise(raw []byte, keep *lexicon) {
	t.reset()
	raw, t.stage = unwrap(raw)
	if len(raw) > maxText {
		raw = raw[:maxText]
	}
	raw = t.spaces(raw)
	t.buf = slices.Grow(t.buf, 2*len(raw))
	var (
		atStart = true  // only punctuation stands before in this reply or line
		inURL   = false // a scheme stands before in the same run
		prev    byte    // the last byte that is no space
	)
	for i := 0; i < len(raw); {
		c := raw[i]
		k := class[c]
		if k&(letter|digit) == 0 {
			i++
			switch {
			case c <= ' ' || c == 0x7f:
				inURL = false
				if c == '\n' {
					atStart = true
				}
				continue
			case c == '#' && i+2 < len(raw) && raw[i] == '0' && raw[i+1] == '1' && (raw[i+2]|3) == '3':
				// syslog's escapes of control characters, #012 for a line feed
				i += 3
				atStart, inURL, prev = true, false, 0
				continue
			case c == '\\' && i < len(raw) && (raw[i] == 'n' || raw[i] == 'r'):
				// Exim's escape of a line end
				i++
				atStart, inURL, prev = true, false, 0
				continue
			case k&sentence != 0 && spaceAt(raw, i):
				t.mask(maskStop)
			}
			prev = c
			continue
		}

		// A run of letters followed by a separator is a word: most are.
		start := i
		if i > 0 && raw[i-1] == '=' && quoted(raw, i-1) >= 0 {
			start = i - 1 // the word begins in quoted-printable
		} else if c < 0x80 && k == letter {
			i += letters(raw[i:])
			if i == len(raw) || class[raw[i]] == 0 || class[raw[i]] == sentence ||
				class[raw[i]]&inner != 0 && spaceAt(raw, i+1) {
				t.word(raw[start:], i-start)
				atStart, prev = false, raw[i-1]
				continue
			}
		} else if k == digit {
			n, isCode := t.replyCode(raw, i, atStart, atStart || inner&class[prev] != 0 && prev != '-' || prev == '>' || prev == '<' || prev == '(' || prev == '"')
			if isCode {
				i += n
				atStart, prev = true, ':'
				continue
			}
		}
		found := marks[raw[start]]
		for i = max(i, start+1); i < len(raw); i++ {
			m := marks[raw[i]]
			if m&(letter|digit|inner) == 0 || raw[i] == '?' && inURL {
				break
			}
			found |= m
		}
		chunk := raw[start:i]
		for len(chunk) > 0 && class[chunk[len(chunk)-1]]&inner != 0 {
			chunk = chunk[:len(chunk)-1]
		}
		if i < len(raw) && raw[i] == '/' && i+1 < len(raw) && raw[i+1] == '/' {
			inURL = true
		}
		t.chunk(chunk, found, atStart || prev == '#' || prev == '(', keep)
		ended := raw[start+len(chunk) : i]
		if len(ended) > 0 && class[ended[len(ended)-1]]&sentence != 0 && spaceAt(raw, i) {
			t.mask(maskStop)
		}
		atStart, prev = false, raw[i-1]
	}
	if t.last == maskStop { // a full stop at the very end says nothing
		t.buf = t.buf[:len(t.buf)-len(" "+maskStop)]
	}
}

// spaces returns raw with spaces for the underscores that qmail-send logs in
// their place. A reply in one word with two of them has no other meaning.
func (t *text) spaces(raw []byte) []byte {
	if bytes.IndexByte(raw, ' ') >= 0 || bytes.Count(raw, []byte{'_'}) < 2 {
		return raw
	}
	t.raw = append(t.raw[:0], raw...)
	for i, c := range t.raw {
		if c == '_' {
			t.raw[i] = ' '
		}
	}
	return t.raw
}

// spaceAt reports whether a space, a line end or the end of the text is at i.
func spaceAt(raw []byte, i int) bool {
	return i >= len(raw) || raw[i] <= ' ' || raw[i] == '\\' && i+1 < len(raw) && (raw[i+1] == 'n' || raw[i+1] == 'r') ||
		raw[i] == '#' && i+2 < len(raw) && raw[i+1] == '0' && raw[i+2] == '1'
}

// replyCode reads a basic reply code at raw[i:] and returns what to skip. A
// number counts as one where a reply begins (first) or may begin (start), before an
// enhanced code, and where it repeats the code of the reply, as it does on each line
// of a multi-line reply.
func (t *text) replyCode(raw []byte, i int, first, start bool) (n int, ok bool) {
	if i+3 > len(raw) || raw[i] != '4' && raw[i] != '5' || class[raw[i+1]] != digit || class[raw[i+2]] != digit {
		return 0, false
	}
	n = 3
	if i+3 < len(raw) {
		switch c := raw[i+3]; {
		case c == ' ' || c == '-' || c == '\t':
			n = 4
		case c == ':' || c == '\n' || c == '\r' || c == '#' || c == '\\':
		case first && glued(raw[i+3:]):
		default:
			return 0, false
		}
	}
	code := uint16(raw[i]-'0')*100 + uint16(raw[i+1]-'0')*10 + uint16(raw[i+2]-'0')
	_, e := event.ParseEnhanced(raw[i+n:])
	if !start && e == 0 && code != t.code {
		return 0, false
	}
	if code != t.code {
		t.code, t.strong = code, false
	}
	return n, true
}

// word writes the word of n bytes that from begins with.
func (t *text) word(from []byte, n int) {
	if n > maxWord && asciiPrefix(from[:n]) > maxWord {
		t.mask(maskNumber)
		return
	}
	t.buf = appendLower(append(t.buf, ' '), from, n)
	t.last = ""
}

// appendLower appends the first n bytes of from in lower case. What follows them
// in from lets it take eight at once.
func appendLower(dst, from []byte, n int) []byte {
	const room = 8 // what is written beyond the end, and cut off again
	end := len(dst)
	dst = slices.Grow(dst, n+room)[:end+n+room]
	i := 0
	for ; i < n && i+8 <= len(from); i += 8 {
		binary.LittleEndian.PutUint64(dst[end+i:], lowerWord(binary.LittleEndian.Uint64(from[i:])))
	}
	for ; i < n; i++ {
		dst[end+i] = lower[from[i]]
	}
	return dst[:end+n]
}

const (
	eachByte = 0x0101010101010101 // times a byte: that byte in each place of a word
	highBits = 0x80 * eachByte
)

// lowerWord is eight bytes in lower case, at once: a byte without its highest bit
// plus 0x80-c has the highest bit if it is at least c.
func lowerWord(w uint64) uint64 {
	b := w &^ highBits
	capital := (b + (0x80-'A')*eachByte) &^ (b + (0x80-'Z'-1)*eachByte) &^ w & highBits
	return w | capital>>2
}

// letters returns how many ASCII letters b begins with.
func letters(b []byte) int {
	n := 0
	for ; n+8 <= len(b); n += 8 {
		w := binary.LittleEndian.Uint64(b[n:])
		c := w&^highBits | 0x20*eachByte
		letter := (c + (0x80-'a')*eachByte) &^ (c + (0x80-'z'-1)*eachByte) &^ w & highBits
		if letter != highBits {
			return n + bits.TrailingZeros64(^letter&highBits)/8
		}
	}
	for n < len(b) && (b[n]|0x20 >= 'a' && b[n]|0x20 <= 'z') {
		n++
	}
	return n
}

// folded writes a word that has been folded.
func (t *text) folded(w []byte) {
	if len(w) == 0 {
		return
	}
	t.buf = append(append(t.buf, ' '), w...)
	t.last = ""
}

// mask writes a mask unless the same one was just written, so that a list of
// numbers is one.
func (t *text) mask(m string) {
	if t.last == m || m == maskStop && len(t.buf) == 0 {
		return
	}
	t.buf = append(append(t.buf, ' '), m...)
	t.last = m
}

// chunk reads what has more than letters in it: an address, a host name, a
// number, an id, or words joined by punctuation. Its bytes have no marks that are
// not in found.
func (t *text) chunk(b []byte, found uint16, start bool, keep *lexicon) {
	if found&markHigh != 0 && found&(markAt|markDot) != 0 {
		if from, to := nameAmid(b); to > 0 {
			t.chunk(b[:from], found, start, keep)
			t.chunk(b[from:to], found&^markHigh, start && from == 0, keep)
			t.chunk(b[to:], found, false, keep)
			return
		}
	}
	if found&markAt != 0 {
		if at := bytes.LastIndexByte(b, '@'); at > 0 && at+1 < len(b) {
			t.mask(maskAddress)
			return
		}
	}
	if found&markPercent != 0 && bytes.Contains(b, []byte("%40")) {
		t.mask(maskAddress)
		return
	}
	if e, n := event.ParseEnhanced(b); n > 0 && n == len(b) {
		if start && !t.strong || t.enhanced.IsZero() {
			t.enhanced, t.strong = e, start
		} else if start && e.Subject != 0 {
			t.enhanced = e
		}
		return
	}
	if found&markHigh != 0 || found&markEqual != 0 && isQuoted(b) {
		b, found = t.fold(b), anyMark
	}
	if found&(markSplit|markHigh) == 0 {
		t.piece(b, found, keep)
		return
	}
	if isIP(b) {
		t.mask(maskIP)
		return
	}
	for len(b) > 0 {
		if found&markColon != 0 { // perhaps ip=2001:db8::1
			if n := bytes.IndexAny(b, "=&%?"); n != 0 {
				if n < 0 {
					n = len(b)
				}
				if isIP(b[:n]) {
					t.mask(maskIP)
					b = b[n:]
					continue
				}
			}
		}
		n := 0
		for n < len(b) && (marks[b[n]]&markSplit == 0 || !splits(b, n)) {
			n++
		}
		if n > 0 {
			t.piece(b[:n], found, keep)
		}
		if n == len(b) {
			return
		}
		if b[n] == '.' {
			t.mask(maskStop)
		}
		if b[n] == '\'' && n+1 < len(b) && b[n+1]|0x20 == 't' && n > 0 && b[n-1]|0x20 == 'n' && (n+2 == len(b) || class[b[n+2]]&letter == 0) {
			// "doesn't" is the word doesnt
			t.buf = append(t.buf, 't')
			n++
		}
		b = b[n+1:]
	}
}

// nameAmid finds an address, a host name or a number with dots amid a sentence of
// a script without spaces ("用户bob@example.com不存在"), so that it does not hide
// the sentence. In a chunk that is a name as a whole, to is 0.
func nameAmid(b []byte) (from, to int) {
	for i := 0; i < len(b); {
		if b[i] >= utf8.RuneSelf {
			i++
			continue
		}
		end := i
		for end < len(b) && b[end] < utf8.RuneSelf {
			end++
		}
		before, _ := utf8.DecodeLastRune(b[:i])
		after, _ := utf8.DecodeRune(b[end:])
		name := bytes.TrimFunc(b[i:end], func(r rune) bool { return class[r]&(letter|digit) == 0 })
		if (i > 0 || end < len(b)) && (i == 0 || spaceless(before)) && (end == len(b) || spaceless(after)) &&
			b[i] != '@' && b[end-1] != '@' && bytes.ContainsAny(name, ".@") {
			return i, end
		}
		i = end
	}
	return 0, 0
}

// spaceless reports whether r is of the scripts of East Asia, or their
// punctuation.
func spaceless(r rune) bool { return r >= 0x2e80 && r != utf8.RuneError }

// Marks of bytes that need a closer look, besides their classes.
const (
	markAt = 1 << (iota + 4)
	markHigh
	markEqual
	markColon
	markPercent
	markDot
	markJoint // a hyphen or underscore
	markSplit // splits may be true

	anyMark = 1<<12 - 1
)

// marks has the class and the marks of each byte.
var marks = func() (t [256]uint16) {
	for c := range t {
		t[c] = uint16(class[c])
	}
	for c := 0x80; c < len(t); c++ {
		t[c] |= markHigh
	}
	for _, c := range []byte(":=&+~%'@ ?.") {
		t[c] |= markSplit
	}
	t['@'] |= markAt
	t['='] |= markEqual
	t[':'] |= markColon
	t['%'] |= markPercent
	t['.'] |= markDot
	t['-'] |= markJoint
	t['_'] |= markJoint
	return t
}()

// isQuoted reports whether b has a byte in quoted-printable.
func isQuoted(b []byte) bool {
	for i, c := range b {
		if c == '=' && quoted(b, i) >= 0 {
			return true
		}
	}
	return false
}

// splits reports whether b[i] separates words: punctuation, except what host
// names and mangled letters are made of, and full stops in a row or without the
// space after it ("denied...5f3e", "rejected.Please").
func splits(b []byte, i int) bool {
	switch b[i] {
	case ':', '=', '&', '+', '~', '%', '\'', '@', ' ':
		return true
	case '?':
		return i == 0 || class[b[i-1]]&letter == 0 && b[i-1] != '?' || i+1 < len(b) && class[b[i+1]]&letter == 0 && b[i+1] != '?'
	case '.':
		return i > 0 && b[i-1] == '.' || i+1 < len(b) && b[i+1] == '.' ||
			i > 0 && i+2 < len(b) && isLower(b[i-1]) && b[i+1] >= 'A' && b[i+1] <= 'Z' && isLower(b[i+2])
	}
	return false
}

// piece reads a run of letters, digits, dots, hyphens and underscores. Its bytes
// have no marks that are not in found.
func (t *text) piece(b []byte, found uint16, keep *lexicon) {
	if found&(digit|markColon) != 0 && isIP(b) {
		t.mask(maskIP)
		return
	}
	for len(b) > 0 && class[b[0]]&inner != 0 {
		b = b[1:]
	}
	for len(b) > 0 && class[b[len(b)-1]]&inner != 0 {
		b = b[:len(b)-1]
	}
	if found&markDot != 0 && t.dotted(b, keep) {
		return
	}
	if found&markJoint != 0 && found&digit != 0 {
		if joined, digits := joints(b); joined && digits && t.kept(b, keep) {
			return
		}
	}
	for len(b) > 0 {
		n, digits := 0, false
		for n < len(b) && b[n] != '-' && b[n] != '_' {
			digits = digits || class[b[n]] == digit
			n++
		}
		switch {
		case n == 0:
		case digits:
			t.mixed(b[:n], keep)
		default:
			t.word(b, n)
		}
		if n == len(b) {
			return
		}
		b = b[n+1:]
	}
}

// mixed writes a run with digits in it. Scripts without spaces write a number
// amid a sentence: "3日以内" is a number and two words.
func (t *text) mixed(b []byte, keep *lexicon) {
	for len(b) > 0 {
		wide := b[0] >= utf8.RuneSelf
		n, digits := 0, false
		for n < len(b) && b[n] >= utf8.RuneSelf == wide {
			digits = digits || class[b[n]] == digit
			n++
		}
		if !digits {
			t.word(b, n)
		} else {
			t.id(b[:n], keep)
		}
		b = b[n:]
	}
}

// id writes a word with digits: itself or its family if the rules name it, else a
// mask.
func (t *text) id(b []byte, keep *lexicon) {
	from := len(t.scratch)
	t.scratch = appendLower(t.scratch, b, len(b))
	if low := t.scratch[from:]; keep.has(low) {
		t.folded(low)
	} else if family := t.family(from); family != nil && keep.has(family) {
		t.folded(family)
	} else {
		t.mask(maskNumber)
	}
	t.scratch = t.scratch[:from]
}

// dotted writes a name with dots, an enhanced code or a number, if b is one.
func (t *text) dotted(b []byte, keep *lexicon) bool {
	dot := bytes.IndexByte(b, '.')
	if dot <= 0 {
		return false
	}
	if e, n := event.ParseEnhanced(b); n > 0 && n == len(b) {
		if t.enhanced.IsZero() {
			t.enhanced = e
		}
		return true
	}
	from := len(t.scratch)
	t.scratch = appendLower(t.scratch, b, len(b))
	name := t.scratch[from:]
	if w := keep.name(name); w != nil {
		t.folded(w)
	} else if last := name[bytes.LastIndexByte(name, '.')+1:]; len(last) > 0 && class[last[0]] == digit {
		if n := letters(b); n > 0 && isIP(b[n:]) { // IP192.0.2.1
			t.word(b, n)
			t.mask(maskIP)
		} else {
			t.mask(maskNumber)
		}
	} else {
		t.mask(maskHost)
	}
	t.scratch = t.scratch[:from]
	return true
}

// joints reports whether b has hyphens or underscores, and digits.
func joints(b []byte) (joined, digits bool) {
	for _, c := range b {
		joined = joined || c == '-' || c == '_'
		digits = digits || class[c] == digit
	}
	return joined, digits
}

// kept writes b as one word if the rules name it, or its family: OFR004_416 is
// "ofr004_416", or else "ofr#_416".
func (t *text) kept(b []byte, keep *lexicon) bool {
	if keep.every {
		return false
	}
	from := len(t.scratch)
	t.scratch = appendLower(t.scratch, b, len(b))
	w := t.scratch[from:]
	if !keep.has(w) {
		w = t.familyTail(from)
	}
	ok := w != nil && keep.has(w)
	if ok {
		t.folded(w)
	}
	t.scratch = t.scratch[:from]
	return ok
}

// familyTail is family for a code whose family is told by its end: the word at
// the end of the scratch memory, its first digits replaced by #.
func (t *text) familyTail(from int) []byte {
	n := from
	for n < len(t.scratch) && class[t.scratch[n]] == letter {
		n++
	}
	tail := n
	for tail < len(t.scratch) && class[t.scratch[tail]] == digit {
		tail++
	}
	whole := len(t.scratch)
	if n == from || tail == whole || t.scratch[tail] != '_' && t.scratch[tail] != '-' {
		return nil
	}
	t.scratch = append(append(t.scratch, t.scratch[from:n]...), '#')
	t.scratch = append(t.scratch, t.scratch[tail:whole]...)
	return t.scratch[whole:]
}

// family returns the letters that the word at the end of the scratch memory
// begins with, and a # for the rest: "lpn#" for LPN105.
func (t *text) family(from int) []byte {
	n := from
	for n < len(t.scratch) && class[t.scratch[n]] == letter {
		n++
	}
	if n == from || n == len(t.scratch) {
		return nil
	}
	t.scratch = append(t.scratch[:n], '#')
	return t.scratch[from:]
}

// maxWord is the length from which a run of ASCII letters is an id. German has
// the longest words that servers use.
const maxWord = 34

// asciiPrefix returns how many bytes of ASCII w begins with: a word that goes on in
// another script ("DNSの…") may be a whole sentence.
func asciiPrefix(w []byte) int {
	n := 0
	for n < len(w) && w[n] < utf8.RuneSelf {
		n++
	}
	return n
}

// fold decodes and folds b into the scratch memory: quoted-printable first,
// then UTF-8 or Latin-1, then lower case without accents.
func (t *text) fold(b []byte) []byte {
	t.scratch = t.scratch[:0]
	for i := 0; i < len(b); i++ {
		if b[i] == '=' {
			if c := quoted(b, i); c >= 0 {
				t.scratch = append(t.scratch, byte(c))
				i += 2
				continue
			}
		}
		t.scratch = append(t.scratch, b[i])
	}
	from := len(t.scratch)
	for i := 0; i < from; {
		if c := t.scratch[i]; c < 0x80 {
			t.scratch = append(t.scratch, c) // its case still tells sentences
			i++
			continue
		}
		r, n := decode(t.scratch[i:from])
		t.scratch = foldRune(t.scratch, r)
		i += n
	}
	return t.scratch[from:]
}

// quoted returns the byte that quoted-printable's =XX at b[i] stands for, or -1
// if it stands for none: name=A1 is no letter. It takes =XX for one if it is
// part of a UTF-8 sequence of them, or stands between lower-case letters in a
// word without digits and dots.
func quoted(b []byte, i int) int {
	c := quotedByte(b, i)
	switch {
	case c < 0x80:
		return -1
	case c >= 0xc2 && quotedByte(b, i+3) >= 0x80 && quotedByte(b, i+3) < 0xc0, c < 0xc0 && i >= 3 && quotedByte(b, i-3) >= 0x80:
		return c
	case i == 0 || i+3 >= len(b) || !isLower(b[i-1]) || !isLower(b[i+3]):
		return -1
	}
	for k := i + 3; k < len(b) && b[k] != '='; k++ {
		if class[b[k]]&digit != 0 || b[k] == '.' {
			return -1
		}
	}
	return c
}

// quotedByte reads =XX, in capitals as RFC 2045 section 6.7 has it, or returns
// -1.
func quotedByte(b []byte, i int) int {
	if i+2 >= len(b) || b[i] != '=' || b[i+1] >= 'a' || b[i+2] >= 'a' {
		return -1
	}
	hi, lo := hexDigit(b[i+1]), hexDigit(b[i+2])
	if hi < 0 || lo < 0 {
		return -1
	}
	return hi<<4 | lo
}

func isLower(c byte) bool { return c >= 'a' && c <= 'z' }

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// isIP reports whether b is an IP address in its usual form: four numbers with
// dots, or hexadecimal groups with "::" or seven colons, after "IPv6:" or not.
func isIP(b []byte) bool {
	if len(b) > 5 && b[4] == ':' && b[0]|0x20 == 'i' {
		b = b[5:]
	}
	dots, colons, double, digits := 0, 0, false, 0
	for i, c := range b {
		switch {
		case c == '.':
			if digits == 0 {
				return false
			}
			dots, digits = dots+1, 0
		case c == ':':
			colons++
			double = double || i > 0 && b[i-1] == ':'
			digits = 0
		case hexDigit(c) >= 0:
			if digits++; digits > 4 || c > '9' && colons == 0 && i > 4 {
				return false
			}
			if c > '9' && dots > 0 {
				return false
			}
		default:
			return false
		}
	}
	return dots == 3 && digits > 0 && digits <= 3 && (colons == 0 || double || colons == 6) ||
		dots == 0 && (double && colons >= 2 || colons == 7)
}

// unwrap cuts what our own MTA put around a reply, and returns the stage if the
// wrapper names it: "host H[ip] said: … (in reply to RCPT TO command)",
// "refused to talk to me:", "smtp;", IronPort's quotes, "SMTP error from remote
// mail server after RCPT TO:<a>:". It cuts only what is followed by a reply code,
// so that words are never lost.
func unwrap(b []byte) ([]byte, event.Stage) {
	stage := event.StageUnknown
	if n := len(b); n > 0 && b[n-1] == ')' {
		if i := lastIndex(b, "(in reply to "); i > 0 {
			stage = stageNamed(b[i+len("(in reply to ") : n-1])
			b = b[:i]
		}
	}
	if bytes.IndexByte(b, ':') < 0 && bytes.IndexByte(b, ';') < 0 && bytes.IndexByte(b, '\'') < 0 || startsWithCode(b) {
		return b, stage // what our own MTA adds stands before, with one of these behind it
	}
	for _, w := range [...]struct {
		words string
		stage event.Stage
	}{
		{"refused to talk to me: ", event.StageConnect},
		{" said: ", event.StageUnknown},
		{" replied: ", event.StageUnknown},
		{" responded: ", event.StageUnknown},
		{" answered: ", event.StageUnknown},
		{"smtp;", event.StageUnknown},
		{"SMTP;", event.StageUnknown},
	} {
		if i := lastIndex(b, w.words); i >= 0 {
			if rest := bytes.TrimLeft(b[i+len(w.words):], " "); startsWithCode(rest) {
				b = rest
				if stage == event.StageUnknown {
					stage = w.stage
				}
			}
		}
	}
	if rest, s := quotedReply(b); rest != nil {
		return rest, max(stage, s)
	}
	const remote = "SMTP error from remote "
	if i := bytes.Index(b, []byte(remote)); i >= 0 {
		rest := b[i+len(remote):]
		for _, who := range [...]string{"mail server after ", "mailer after ", "server after ", "server for "} {
			if bytes.HasPrefix(rest, []byte(who)) {
				if stage == event.StageUnknown {
					stage = stageNamed(rest[len(who):])
				}
				if reply := introduced(rest[len(who):]); reply != nil {
					b = reply
				}
				break
			}
		}
	}
	return b, stage
}

// introduced returns the first reply in b that stands after a colon or begins a
// line, or nil.
func introduced(b []byte) []byte {
	for {
		i := bytes.IndexAny(b, ":\n")
		if i < 0 {
			return nil
		}
		if b = bytes.TrimLeft(b[i+1:], " \r"); startsWithCode(b) {
			return b
		}
	}
}

// quotedReply returns the reply that Cisco's gateways quote after a code and a
// word of their own, and the stage if that word tells it: "5.1.0 - Unknown address
// error 550-'5.7.1 …' (delivery attempts: 0)", "5.3.0 - Other mail system problem
// 554-'…'". The gateway calls every refusal so; only the quoted reply tells why.
func quotedReply(b []byte) ([]byte, event.Stage) {
	own := bytes.Index(b, []byte(" - "))
	if own < 0 {
		return nil, event.StageUnknown
	}
	words := b[own+len(" - "):]
	i := bytes.Index(words, []byte("-'"))
	if i < 4 || words[i-4] != ' ' || !startsWithCode(words[i-3:]) {
		return nil, event.StageUnknown
	}
	stage := event.StageUnknown
	if bytes.HasSuffix(words[:i-4], []byte("address error")) {
		stage = event.StageRcpt
	}
	b = words[i-3:]
	if end := lastIndex(b, "'"); end > 4 && (end+1 == len(b) || b[end+1] == ' ') {
		b = b[:end]
	}
	return b, stage
}

// lastIndex is bytes.LastIndex, faster for what is mostly absent.
func lastIndex(b []byte, s string) int {
	if i := bytes.Index(b, []byte(s)); i >= 0 {
		return i + bytes.LastIndex(b[i:], []byte(s))
	}
	return -1
}

// startsWithCode reports whether a reply that tells a failure begins at b.
func startsWithCode(b []byte) bool {
	return len(b) >= 3 && (b[0] == '4' || b[0] == '5') && class[b[1]] == digit && class[b[2]] == digit &&
		(len(b) == 3 || b[3] == ' ' || b[3] == '-' || glued(b[3:]))
}

// glued reports whether a code that b follows is one without a space after it, as
// scripts without spaces write it ("550用户不存在"), rather than a number of things
// ("500通").
func glued(b []byte) bool {
	if len(b) == 0 || b[0] < utf8.RuneSelf {
		return false
	}
	r, _ := utf8.DecodeRune(b)
	return spaceless(r) && !strings.ContainsRune("通件人個个回次封名日天年月時时秒分点點字行頁页건명통개초", r)
}

// stageNamed reads the SMTP command at the start of b.
func stageNamed(b []byte) event.Stage {
	for _, c := range [...]struct {
		command string
		stage   event.Stage
	}{
		{"RCPT", event.StageRcpt}, {"MAIL", event.StageMail}, {"end of DATA", event.StageEnd}, {"end of data", event.StageEnd},
		{"DATA", event.StageData}, {"TEXT", event.StageEnd}, {"transfer of mail text", event.StageEnd}, {"EHLO", event.StageHelo}, {"HELO", event.StageHelo}, {"LHLO", event.StageHelo},
		{"initial connection", event.StageConnect}, {"STARTTLS", event.StageTLS}, {"AUTH", event.StageAuth}, {"QUIT", event.StageQuit},
		{"pipelined MAIL", event.StageMail}, {"pipelined end of data", event.StageEnd}, {"pipelined DATA", event.StageData},
	} {
		if len(b) >= len(c.command) && string(b[:len(c.command)]) == c.command {
			return c.stage
		}
	}
	return event.StageUnknown
}
