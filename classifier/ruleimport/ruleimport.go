// Package ruleimport turns the bounce rules of other mail servers into rule
// files of package classifier: KumoMTA's bounce classifier (TOML, see
// https://docs.kumomta.com/reference/kumo/configure_bounce_classifier/) and
// PowerMTA's <bounce-category-patterns>. Both list regular expressions over the
// reply under the name of a class.
//
// An expression becomes conditions on the reply code and the enhanced status
// code, and phrases: it is spelled out into the few texts it stands for. What
// cannot be spelled out is reported with its line, never dropped in silence.
// Rules see masked text (see package classifier), and they match words rather
// than letters: an expression that ends inside a word becomes a phrase for any
// ending.
package ruleimport

import (
	"cmp"
	"fmt"
	"io"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"

	"github.com/bouncemeter/bouncemeter/classifier"
	"github.com/bouncemeter/bouncemeter/event"
)

// pattern is one expression of a foreign file.
type pattern struct {
	class string
	expr  string
	line  int
}

// KumoMTA reads a bounce classifier file and writes rules to w. It returns what
// could not be taken over; the error is one of reading, or of the file's form.
func KumoMTA(w io.Writer, file string, r io.Reader) ([]classifier.Fault, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	patterns, err := parseTOML(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s:%w", file, err)
	}
	return write(w, file, "kumomta", patterns)
}

// PowerMTA reads the <bounce-category-patterns> of a configuration file and
// writes rules to w; it returns like KumoMTA.
func PowerMTA(w io.Writer, file string, r io.Reader) ([]classifier.Fault, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	patterns, err := parsePowerMTA(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s:%w", file, err)
	}
	return write(w, file, "powermta", patterns)
}

// categories maps the class names of both servers, in lower case without
// hyphens, to categories.
var categories = map[string]event.Category{
	"invalidrecipient": event.UserUnknown, "badmailbox": event.UserUnknown,
	"inactivemailbox": event.UserInactive,
	"quotaissues":     event.MailboxFull,
	"baddomain":       event.BadDomain,
	"dnsfailure":      event.DNSFailed, "routingerrors": event.DNSFailed,
	"noanswerfromhost": event.ConnectionFailed, "badconnection": event.ConnectionFailed,
	"relaydenied": event.RelayDenied, "relayingissues": event.RelayDenied,
	"messageexpired": event.QueueExpired,
	"contentrelated": event.SpamContent, "spamcontent": event.SpamContent, "spamrelated": event.SpamContent,
	"spamblock":    event.IPBlocklisted,
	"virusrelated": event.Malware, "prohibitedattachment": event.Malware,
	"policyrelated":        event.Policy,
	"protocolerrors":       event.ProtocolError,
	"invalidsender":        event.SenderRejected,
	"authenticationfailed": event.AuthFailed,
	"badconfiguration":     event.SystemError, "transientfailure": event.SystemError,
	"toomanyrecipients": event.RateLimited,
}

func category(class string) (event.Category, bool) {
	if c, ok := event.CategoryByID(class); ok {
		return c, true
	}
	c, ok := categories[strings.ReplaceAll(strings.ToLower(class), "-", "")]
	return c, ok
}

// condition is what a rule asks for besides phrases.
type condition struct {
	class    string
	code     string // comma-separated
	enhanced string
}

// write turns the patterns into rules: one for each class and set of codes.
func write(w io.Writer, file, prefix string, patterns []pattern) ([]classifier.Fault, error) {
	var faults []classifier.Fault
	fault := func(p pattern, remedy, problem string, args ...any) {
		faults = append(faults, classifier.Fault{File: file, Line: p.line, Problem: fmt.Sprintf(problem, args...), Remedy: remedy})
	}
	phrases := map[condition][]string{}
	var order []condition
	for _, p := range patterns {
		if _, ok := category(p.class); !ok {
			fault(p, "rename it to a category of docs/categories.md", "no category for class %q", p.class)
			continue
		}
		texts, err := spellOut(p.expr)
		if err != nil {
			fault(p, "write a rule for it by hand", "%q: %v", p.expr, err)
			continue
		}
		// Codes of alternatives that share their words belong to one rule.
		byPhrase := map[string]*split{}
		var words []string
		for _, t := range texts {
			s := splitCodes(t)
			if s.phrase == "" && len(s.codes)+len(s.enhanced) == 0 {
				continue
			}
			if have := byPhrase[s.phrase]; have != nil {
				have.add(s)
				continue
			}
			byPhrase[s.phrase] = &s
			words = append(words, s.phrase)
		}
		if len(words) == 0 {
			fault(p, "write a rule for it by hand", "%q asks for no word and no code", p.expr)
		}
		for _, phrase := range words {
			s := byPhrase[phrase]
			c := condition{p.class, strings.Join(s.codes, ", "), strings.Join(s.enhanced, ", ")}
			if _, ok := phrases[c]; !ok {
				order = append(order, c)
			}
			if !slices.Contains(phrases[c], phrase) {
				phrases[c] = append(phrases[c], phrase)
			}
		}
	}
	if _, err := fmt.Fprintf(w, "# Imported from %s.\nrules:\n", file); err != nil {
		return faults, err
	}
	n := map[string]int{}
	for _, c := range order {
		to, _ := category(c.class)
		id := prefix + "_" + strings.ToLower(strings.ReplaceAll(c.class, "-", "_"))
		if n[id]++; n[id] > 1 {
			id = fmt.Sprintf("%s_%d", id, n[id])
		}
		var b strings.Builder
		fmt.Fprintf(&b, "  - id: %s\n    category: %s\n", id, to)
		if c.code != "" {
			fmt.Fprintf(&b, "    code: [%s]\n", c.code)
		}
		if c.enhanced != "" {
			fmt.Fprintf(&b, "    enhanced: [%s]\n", c.enhanced)
		}
		if list := slices.DeleteFunc(slices.Clone(phrases[c]), func(p string) bool { return p == "" }); len(list) > 0 && len(list) == len(phrases[c]) {
			b.WriteString("    any:\n")
			for _, p := range list {
				fmt.Fprintf(&b, "      - '%s'\n", strings.ReplaceAll(p, "'", "''"))
			}
		}
		if _, err := io.WriteString(w, b.String()); err != nil {
			return faults, err
		}
	}
	return faults, nil
}

// split is a spelled-out text taken apart.
type split struct {
	codes, enhanced []string
	phrase          string
}

func (s *split) add(o split) {
	for _, c := range o.codes {
		if !slices.Contains(s.codes, c) {
			s.codes = append(s.codes, c)
		}
	}
	for _, c := range o.enhanced {
		if !slices.Contains(s.enhanced, c) {
			s.enhanced = append(s.enhanced, c)
		}
	}
}

// splitCodes takes the codes out of a text; what is left is a phrase.
func splitCodes(text string) split {
	var s split
	var words []string
	// The last word may go on in the reply, as the expression does not say
	// where it ends.
	open := !strings.HasSuffix(text, " ")
	for _, w := range strings.Fields(text) {
		t := strings.ReplaceAll(strings.Trim(w, "-#:[]()<>"), anyDigit, "x")
		switch {
		case isCode(t):
			s.codes = append(s.codes, t)
		case isEnhanced(t):
			s.enhanced = append(s.enhanced, t)
		case t == "x.x.x.x":
			words = append(words, "IP")
		case strings.Contains(w, anyDigit):
			words = append(words, "N")
		case w == ".." || strings.ContainsFunc(w, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }):
			words = append(words, w)
		}
	}
	for len(words) > 0 && words[0] == ".." {
		words = words[1:]
	}
	for len(words) > 0 && words[len(words)-1] == ".." {
		words, open = words[:len(words)-1], false
	}
	if n := len(words); n > 0 && open && strings.Trim(words[n-1][len(words[n-1])-1:], "abcdefghijklmnopqrstuvwxyz") == "" {
		words[n-1] += "*"
	}
	s.phrase = strings.Join(words, " ")
	return s
}

func isCode(w string) bool {
	return len(w) == 3 && strings.IndexByte("245", w[0]) >= 0 && strings.Trim(w[1:], "0123456789x") == ""
}

func isEnhanced(w string) bool {
	parts := strings.Split(w, ".")
	return len(parts) == 3 && (parts[0] == "4" || parts[0] == "5" || parts[0] == "x") && parts[1] != "" && parts[2] != "" &&
		strings.Trim(parts[1], "0123456789") == "" && (strings.Trim(parts[2], "0123456789") == "" || parts[2] == "x")
}

// anyDigit stands for any digit in a spelled-out text.
const anyDigit = "\x01"

// maxTexts bounds how many texts an expression is spelled out into.
const maxTexts = 256

// spellOut returns the texts that a regular expression stands for, in lower
// case: anyDigit stands for any digit, " .. " for anything.
func spellOut(expr string) ([]string, error) {
	re, err := syntax.Parse(expr, syntax.Perl|syntax.FoldCase)
	if err != nil {
		return nil, fmt.Errorf("not a regular expression that can be read: %w", err)
	}
	return texts(re.Simplify())
}

func texts(re *syntax.Regexp) ([]string, error) {
	switch re.Op {
	case syntax.OpEmptyMatch, syntax.OpBeginLine, syntax.OpBeginText, syntax.OpEndLine, syntax.OpEndText:
		return []string{""}, nil
	case syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return []string{""}, nil
	case syntax.OpLiteral:
		return []string{strings.ToLower(string(re.Rune))}, nil
	case syntax.OpCharClass:
		return class(re)
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return []string{" "}, nil
	case syntax.OpCapture:
		return texts(re.Sub[0])
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest, syntax.OpRepeat:
		return repeated(re)
	case syntax.OpAlternate:
		var all []string
		for _, sub := range re.Sub {
			t, err := texts(sub)
			if err != nil {
				return nil, err
			}
			all = append(all, t...)
		}
		return bounded(all)
	case syntax.OpConcat:
		all := []string{""}
		for _, sub := range re.Sub {
			t, err := texts(sub)
			if err != nil {
				return nil, err
			}
			var next []string
			for _, a := range all {
				for _, b := range t {
					next = append(next, a+b)
				}
			}
			if all, err = bounded(next); err != nil {
				return nil, err
			}
		}
		return all, nil
	}
	return nil, fmt.Errorf("%s has no counterpart in phrases", re)
}

func bounded(all []string) ([]string, error) {
	slices.Sort(all)
	if all = slices.Compact(all); len(all) > maxTexts {
		return nil, fmt.Errorf("it stands for more than %d texts", maxTexts)
	}
	return all, nil
}

// class spells a character class out: digits, separators, a few letters.
func class(re *syntax.Regexp) ([]string, error) {
	var runes []rune
	for i := 0; i < len(re.Rune); i += 2 {
		for r := re.Rune[i]; r <= re.Rune[i+1] && len(runes) < 300; r++ {
			runes = append(runes, r)
		}
	}
	digits, others := 0, 0
	for _, r := range runes {
		switch {
		case r >= '0' && r <= '9':
			digits++
		case r != ' ' && r != '\t' && r != '-' && r != '_' && r != '\n' && r != '\r' && r != '\f' && r != '\v':
			others++
		}
	}
	switch {
	case digits == 10 && others == 0:
		return []string{anyDigit}, nil
	case digits == 0 && others == 0:
		return []string{" "}, nil
	case digits+others <= 20:
		var all []string
		for _, r := range runes {
			all = append(all, strings.ToLower(string(r)))
		}
		return bounded(all)
	}
	return []string{" .. "}, nil // too many to name
}

// repeated spells a repetition out: anything, some space, or perhaps a word.
func repeated(re *syntax.Regexp) ([]string, error) {
	sub := re.Sub[0]
	anything := sub.Op == syntax.OpAnyChar || sub.Op == syntax.OpAnyCharNotNL
	inside, err := texts(sub)
	if err != nil {
		return nil, err
	}
	space := !slices.ContainsFunc(inside, func(s string) bool { return strings.TrimSpace(s) != "" })
	switch {
	case re.Op == syntax.OpQuest && !anything:
		return bounded(append(inside, ""))
	case anything && re.Op != syntax.OpQuest:
		return []string{" .. "}, nil
	case anything || space:
		return []string{" "}, nil
	case len(inside) == 1 && inside[0] == anyDigit:
		return []string{anyDigit}, nil
	case re.Op == syntax.OpPlus && len(inside) > 0:
		return inside, nil
	}
	return []string{" .. "}, nil
}

// parsePowerMTA reads lines "/expression/ class" inside of the section.
func parsePowerMTA(text string) ([]pattern, error) {
	var list []pattern
	inside, seen := false, false
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		switch {
		case strings.EqualFold(line, "<bounce-category-patterns>"):
			inside, seen = true, true
		case strings.EqualFold(line, "</bounce-category-patterns>"):
			inside = false
		case !inside || line == "" || line[0] == '#':
		default:
			end := strings.LastIndexByte(line, '/')
			if line[0] != '/' || end < 1 {
				return nil, fmt.Errorf("%d: %q is no pattern: write /expression/ class", i+1, line)
			}
			list = append(list, pattern{strings.TrimSpace(line[end+1:]), line[1:end], i + 1})
		}
	}
	if !seen {
		return nil, fmt.Errorf("1: no <bounce-category-patterns> section in the file")
	}
	return list, nil
}

// parseTOML reads what bounce classifier files have: a table [rules] whose keys
// are classes and whose values are arrays of strings.
func parseTOML(text string) ([]pattern, error) {
	p := toml{text: text, line: 1}
	var list []pattern
	table := ""
	for p.space(); p.text != ""; p.space() {
		if p.text[0] == '[' {
			name, ok := p.until(']')
			if !ok {
				return nil, p.errorf("the name of a table lacks its ]")
			}
			table = strings.TrimSpace(name)
			continue
		}
		key, ok := p.until('=')
		if !ok {
			return nil, p.errorf("want key = [...]")
		}
		key = strings.Trim(strings.TrimSpace(key), `"'`)
		p.space()
		if !strings.HasPrefix(p.text, "[") {
			if _, _, err := p.str(); err != nil {
				return nil, err
			}
			continue
		}
		p.skip(1)
		for {
			p.space()
			if strings.HasPrefix(p.text, ",") {
				p.skip(1)
				continue
			}
			if strings.HasPrefix(p.text, "]") {
				p.skip(1)
				break
			}
			s, line, err := p.str()
			if err != nil {
				return nil, err
			}
			if table == "rules" {
				list = append(list, pattern{key, s, line})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b pattern) int { return cmp.Compare(a.line, b.line) })
	return list, nil
}

// toml is what is left of a file and the line it is at.
type toml struct {
	text string
	line int
}

func (p *toml) errorf(format string, args ...any) error {
	return fmt.Errorf("%d: %s", p.line, fmt.Sprintf(format, args...))
}

func (p *toml) skip(n int) {
	p.line += strings.Count(p.text[:n], "\n")
	p.text = p.text[n:]
}

// space skips spaces, line ends and comments.
func (p *toml) space() {
	for p.text != "" {
		switch c := p.text[0]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			p.skip(1)
		case c == '#':
			n := strings.IndexByte(p.text, '\n')
			if n < 0 {
				n = len(p.text)
			}
			p.skip(n)
		default:
			return
		}
	}
}

// until returns what stands before c on this line, and skips both.
func (p *toml) until(c byte) (string, bool) {
	end := strings.IndexByte(p.text, c)
	if n := strings.IndexByte(p.text, '\n'); end < 0 || n >= 0 && n < end {
		return "", false
	}
	s := strings.TrimPrefix(p.text[:end], "[")
	p.skip(end + 1)
	return s, true
}

// str reads a string and returns it with the line it begins in.
func (p *toml) str() (s string, line int, err error) {
	line = p.line
	for _, quote := range []string{`"""`, "'''", `"`, "'"} {
		if !strings.HasPrefix(p.text, quote) {
			continue
		}
		var b strings.Builder
		for i := len(quote); i < len(p.text); i++ {
			switch {
			case strings.HasPrefix(p.text[i:], quote):
				p.skip(i + len(quote))
				return b.String(), line, nil
			case p.text[i] == '\\' && quote[0] == '"' && i+1 < len(p.text):
				i++
				switch p.text[i] {
				case 'n':
					b.WriteByte('\n')
				case 't':
					b.WriteByte('\t')
				case '"', '\\':
					b.WriteByte(p.text[i])
				default:
					return "", line, p.errorf("\\%c is no escape: write \\\\%c for an expression", p.text[i], p.text[i])
				}
			default:
				b.WriteByte(p.text[i])
			}
		}
		return "", line, p.errorf("the string lacks its closing %s", quote)
	}
	return "", line, p.errorf("want a string in quotes")
}
