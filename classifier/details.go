package classifier

import (
	"bytes"
	"slices"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/bouncemeter/bouncemeter/event"
)

// Details is what a reply tells beyond its category. Absent fields are zero.
// It is read from the reply itself, whose masked parts rules do not see.
type Details struct {
	Code     uint16 // innermost basic code
	Enhanced event.Enhanced
	Stage    event.Stage
	// RetryAfter is how long the server asks to wait, from imperative phrases
	// only ("try again in 5 minutes"): never a queue's lifetime or a warning.
	RetryAfter time.Duration
	// Blocklist is the catalogue's entry for the list that the reply names.
	Blocklist *Blocklist
	// Mechanisms has what is said of SPF, DKIM and DMARC, in the reply's order.
	Mechanisms []Mechanism
	// Domain and IP are the sender's that failed, for verdicts about the
	// sender's authorisation or reputation.
	Domain string
	IP     string
	// NewAddress is where a recipient has moved to, for user_moved.
	NewAddress string
}

// Mechanism is the result of one way to authenticate a sender.
type Mechanism struct {
	Name   string `json:"name"`   // spf, dkim or dmarc
	Result string `json:"result"` // as in RFC 8601: pass, fail, softfail, none, …; "" if it is not told
}

// maxRetry bounds RetryAfter: nobody asks for more, and it may be a typing
// error or a lifetime.
const maxRetry = 7 * 24 * time.Hour

// Details reads what e's reply tells beyond its category.
func (c *Classifier) Details(e *event.Event) Details {
	s := c.sessions.Get().(*Session)
	defer c.sessions.Put(s)
	return s.Details(e)
}

// Details is Classifier.Details for many events in a row.
func (s *Session) Details(e *event.Event) Details {
	var q query
	s.who(e, &q)
	s.prepare(e, &q)
	r, _ := s.lookup(&q)
	reply, _ := unwrap(e.Reply.Text)
	s.words, s.low = rawWords(s.words[:0], s.low[:0], reply)
	words := s.words
	d := Details{Code: q.code, Enhanced: q.enhanced, Stage: q.stage, RetryAfter: retryAfter(words), Mechanisms: mechanisms(words)}
	if r.blocklist > 0 {
		d.Blocklist = &s.t.blocklists[r.blocklist]
	}
	switch r.category {
	case event.SPFFailed, event.DKIMFailed, event.DMARCFailed, event.AuthFailed, event.SenderUnverified, event.SenderRejected,
		event.IPBlocklisted, event.DomainBlocklisted, event.RDNSMissing:
		d.Domain, d.IP = s.t.blamed(words, event.Domain(e.Recipient))
	case event.UserMoved:
		d.NewAddress = newAddress(words, e.Recipient)
	}
	return d
}

// rawWord is a word of a reply: as written without surrounding punctuation, and
// folded.
type rawWord struct{ raw, low []byte }

// rawWords parts a reply at spaces and brackets, which leaves addresses, host
// names, times and numbers whole. It appends to words, and the folded forms to
// low.
func rawWords(words []rawWord, low, b []byte) ([]rawWord, []byte) {
	if len(b) > maxText {
		b = b[:maxText]
	}
	for i := 0; i < len(b); {
		j := i
		for j < len(b) && b[j] > ' ' && !brackets[b[j]] {
			j++
		}
		if w := bytes.Trim(b[i:j], ".:!?'#-*"); len(w) > 0 {
			from := len(low)
			for k := 0; k < len(w); {
				if w[k] < 0x80 {
					low = append(low, lower[w[k]])
					k++
					continue
				}
				r, n := decode(w[k:])
				low = foldRune(low, r)
				k += n
			}
			words = append(words, rawWord{w, low[from:len(low):len(low)]})
		}
		i = j + 1
	}
	return words, low
}

var brackets = func() (t [256]bool) {
	for _, c := range []byte(`<>()[]{}",;|=`) {
		t[c] = true
	}
	return t
}()

// units of time by the beginning of their names.
var units = []struct {
	stem string
	unit time.Duration
}{
	{"sec", time.Second}, {"sek", time.Second}, {"seg", time.Second}, {"сек", time.Second}, {"秒", time.Second}, {"초", time.Second},
	{"min", time.Minute}, {"мин", time.Minute}, {"分", time.Minute}, {"분", time.Minute}, {"хвилин", time.Minute}, {"dakika", time.Minute},
	{"hour", time.Hour}, {"hr", time.Hour}, {"stund", time.Hour}, {"heure", time.Hour}, {"hora", time.Hour}, {"ora", time.Hour}, {"ore", time.Hour}, {"uur", time.Hour},
	{"godzin", time.Hour}, {"hodin", time.Hour}, {"час", time.Hour}, {"годин", time.Hour}, {"时", time.Hour}, {"小时", time.Hour}, {"時間", time.Hour}, {"시간", time.Hour}, {"saat", time.Hour}, {"timm", time.Hour}, {"timer", time.Hour},
	{"day", 24 * time.Hour}, {"tag", 24 * time.Hour}, {"jour", 24 * time.Hour}, {"dia", 24 * time.Hour}, {"giorn", 24 * time.Hour},
}

// again has the words that ask to come back, by their beginnings.
var again = []string{
	"again", "retry", "wait", "back", "resend", "reconnect", "erneut", "wieder", "spater", "warten", "reessay", "patient", "nouveau", "intent", "reintent",
	"novamente", "tente", "riprova", "riprovare", "opnieuw", "sprobuj", "ponow", "zkuste", "opakujte", "повтор", "попроб", "спробуйте", "tekrar", "igen", "igjen", "uudelleen", "再", "다시",
}

// past has words that tell of what was or will be, not of what to do.
var past = []string{"retried", "delayed", "queue", "expired", "lifetime", "deliver", "delivered", "undelivered", "attempts", "trying", "more"}

func hasStem(w []byte, stems []string) bool {
	return slices.ContainsFunc(stems, func(s string) bool { return bytes.HasPrefix(w, []byte(s)) })
}

// retryAfter finds a length of time close to words that ask to come back.
func retryAfter(words []rawWord) time.Duration {
	for i := range words {
		if len(words[i].low) == 0 || class[words[i].low[0]] != digit {
			continue
		}
		d, n := duration(words[i:])
		if n == 0 || d <= 0 || d > maxRetry {
			continue
		}
		asked, told := false, false
		for j := max(i-6, 0); j < min(i+n+5, len(words)); j++ {
			asked = asked || hasStem(words[j].low, again)
			told = told || slices.ContainsFunc(past, func(p string) bool { return string(words[j].low) == p })
		}
		if i > 0 {
			switch string(words[i-1].low) {
			case "last", "past", "every", "per", "within", "over", "older": // a rate or a lifetime
				told = true
			}
		}
		if asked && !told {
			return d
		}
	}
	return 0
}

// duration reads "5 minutes", "300s" or "00:05:00" and returns how many words
// it took.
func duration(words []rawWord) (time.Duration, int) {
	w := words[0].low
	digits := 0
	for digits < len(w) && w[digits] >= '0' && w[digits] <= '9' {
		digits++
	}
	if digits == 0 || digits > 7 {
		return 0, 0
	}
	v, _ := strconv.Atoi(string(w[:digits]))
	if rest := w[digits:]; len(rest) > 0 {
		if len(rest) >= 3 && rest[0] == ':' {
			parts := bytes.Split(w, []byte(":"))
			if len(parts) != 3 {
				return 0, 0
			}
			total := 0
			for _, p := range parts {
				n, err := strconv.Atoi(string(p))
				if err != nil {
					return 0, 0
				}
				total = total*60 + n
			}
			return time.Duration(total) * time.Second, 1
		}
		return scale(v, rest), 1
	}
	if len(words) < 2 {
		return 0, 0
	}
	d := scale(v, words[1].low)
	if d == 0 {
		return 0, 0
	}
	return d, 2
}

func scale(v int, unit []byte) time.Duration {
	switch string(unit) {
	case "s":
		return time.Duration(v) * time.Second
	case "m":
		return time.Duration(v) * time.Minute
	case "h":
		return time.Duration(v) * time.Hour
	}
	for _, u := range units {
		if bytes.HasPrefix(unit, []byte(u.stem)) {
			return time.Duration(v) * u.unit
		}
	}
	return 0
}

// results are those of RFC 8601, and the words that mean them.
var results = map[string]string{
	"pass": "pass", "passed": "pass", "fail": "fail", "failed": "fail", "fails": "fail", "failure": "fail", "hardfail": "fail",
	"unauthorized": "fail", "rejected": "fail", "invalid": "fail", "violation": "fail",
	"softfail": "softfail", "neutral": "neutral", "none": "none", "missing": "none", "permerror": "permerror", "temperror": "temperror",
}

// mechanisms finds what is said of each mechanism: a result within the next
// words, or "did not pass", before another mechanism is named.
func mechanisms(words []rawWord) []Mechanism {
	var list []Mechanism
	for i, w := range words {
		name := mechanismNamed(w.low)
		if name == "" {
			continue
		}
		result := ""
		negated := false
		for j := i + 1; j < min(i+9, len(words)) && result == "" && mechanismNamed(words[j].low) == ""; j++ {
			switch string(words[j].low) {
			case "not", "didn't", "doesn't":
				negated = true
			}
			if result = results[string(words[j].low)]; result == "pass" && negated {
				result = "fail"
			}
		}
		if result == "" && i > 0 && results[string(words[i-1].low)] != "pass" {
			result = results[string(words[i-1].low)]
		}
		k := slices.IndexFunc(list, func(m Mechanism) bool { return m.Name == name })
		switch {
		case k < 0:
			list = append(list, Mechanism{name, result})
		case list[k].Result == "":
			list[k].Result = result
		}
	}
	return list
}

func mechanismNamed(w []byte) string {
	switch string(w) {
	case "spf":
		return "spf"
	case "dkim":
		return "dkim"
	case "dmarc":
		return "dmarc"
	}
	return ""
}

// blamed returns the first domain and the first IP address of a reply that may
// be the sender's: hosts of providers and lists, and the recipient's domain,
// are not.
func (t *tables) blamed(words []rawWord, recipient []byte) (domain, ip string) {
	for _, w := range words {
		switch {
		case isIP(w.raw):
			if ip == "" {
				ip = string(w.raw)
			}
		case domain == "" && !bytes.Contains(w.raw, []byte("/")) && isDomain(event.Domain(w.low)) && !bytes.Equal(event.Domain(w.low), recipient):
			domain = string(event.Domain(w.low))
		case domain == "" && isDomain(w.low) && !bytes.Equal(w.low, recipient) && t.keep.name(w.low) == nil && suffix(t.providers.mx, w.low, nil) == providerOther:
			domain = string(w.low)
		}
	}
	return domain, ip
}

// isDomain reports whether b is a host or domain name with at least two labels
// and no number for its last.
func isDomain(b []byte) bool {
	dot := bytes.LastIndexByte(b, '.')
	if dot <= 0 || len(b)-dot < 3 || len(b) > 253 || bytes.Contains(b, []byte("..")) {
		return false
	}
	for _, c := range b[dot+1:] {
		if c < 'a' || c > 'z' {
			return false
		}
	}
	for _, c := range b[:dot] {
		if class[c]&(letter|digit) == 0 && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// newAddress returns the last address of a reply other than the recipient's
// own, if there is one.
func newAddress(words []rawWord, recipient []byte) string {
	for _, w := range slices.Backward(words) {
		if at := bytes.IndexByte(w.raw, '@'); at > 0 && isDomain(event.Domain(w.low)) && !bytes.EqualFold(w.raw, recipient) && utf8.Valid(w.raw) {
			return string(w.raw)
		}
	}
	return ""
}

// lineCodes are the codes that begin each line of a multi-line reply (RFC 5321
// section 4.2.1): "550-5.1.1 ", and on the last line "550 5.1.1 ".
type lineCodes struct {
	basic    []byte // nil if the first line is no part of several
	enhanced []byte // with the space behind it, if there is one
}

// codes returns what the lines of the reply b begin with.
func codes(b []byte) lineCodes {
	if len(b) < 4 || b[3] != '-' || class[b[0]] != digit || class[b[1]] != digit || class[b[2]] != digit {
		return lineCodes{}
	}
	c := lineCodes{basic: b[:3]}
	if _, n := event.ParseEnhanced(b[4:]); n > 0 && 4+n < len(b) && b[4+n] == ' ' {
		c.enhanced = b[4 : 4+n+1]
	}
	return c
}

// length returns how long the codes at the start of a line are that repeats
// them, or 0. Without an enhanced code the last line's could be a number of the
// text.
func (c *lineCodes) length(line []byte) int {
	if c.basic == nil || !bytes.HasPrefix(line, c.basic) || len(line) < 5 || line[3] != '-' && (line[3] != ' ' || c.enhanced == nil) {
		return 0
	}
	if !bytes.HasPrefix(line[4:], c.enhanced) {
		return 0
	}
	return 4 + len(c.enhanced)
}

// maxSample bounds a sample, in bytes.
const maxSample = 300

// ellipsis ends a sample of which something is left out.
const ellipsis = "…"

// Sample appends to dst the reply in a form that may be stored and shown: one
// line of valid UTF-8 without the wrapper of our own MTA, without control
// characters, with <address> for each mail address, and of bounded length, with an
// ellipsis at its end if that left something out. Of the codes that begin each
// line of a multi-line reply only the first stay.
func (s *Session) Sample(e *event.Event, dst []byte) []byte {
	b, _ := unwrap(e.Reply.Text)
	more := len(b) > maxText
	if more {
		b = b[:maxText]
	}
	start := len(dst)
	again := codes(b)
	word := start // where the current run without spaces begins
	address := false
	space := false
	for i := 0; i < len(b) || i == len(b) && !more; {
		if len(dst)-start > maxSample && word == len(dst) {
			break // only here, since what has begun may be an address
		}
		r, n := ' ', 1
		if i < len(b) {
			if r, n = decode(b[i:]); r == '\\' && i+1 < len(b) && (b[i+1] == 'n' || b[i+1] == 'r') {
				r, n = ' ', 2
			} else if r == '#' && bytes.HasPrefix(b[i:], []byte("#01")) && i+3 < len(b) && class[b[i+3]] == digit {
				r, n = ' ', 4
			}
		}
		i += n
		if (r == ' ' || r == '\n') && i < len(b) {
			i += again.length(b[i:])
		}
		ends := r <= ' ' || r == '<' || r == '>' || r == '(' || r == ')' || r == '[' || r == ']' || r == ',' || r == ';' || r == '"' || unicode.IsSpace(r)
		if ends && address {
			dst = append(dst[:word], "<address>"...)
			if r == '>' { // the brackets are part of the mask
				if word > start && dst[word-1] == '<' {
					dst = append(dst[:word-1], "<address>"...)
				}
				word, address, space = len(dst), false, false
				continue
			}
		}
		if ends {
			address = false
		}
		switch {
		case r == ' ' || unicode.IsSpace(r) || unicode.IsControl(r):
			space = len(dst) > start
			word = len(dst)
			continue
		case unicode.In(r, unicode.Cf) || r == utf8.RuneError:
			continue // marks that change the direction of text, and the like
		}
		if space {
			dst = append(dst, ' ')
			space = false
			word = len(dst)
		}
		if r == '@' && len(dst) > word {
			address = true
		}
		dst = utf8.AppendRune(dst, r)
		if ends {
			word = len(dst)
		}
	}
	if more && (address || len(dst)-start <= maxSample) {
		dst = dst[:word] // half a word may be half an address
	}
	if len(dst)-start > maxSample || more {
		end := min(len(dst), start+maxSample-len(ellipsis))
		for end < len(dst) && !utf8.RuneStart(dst[end]) {
			end--
		}
		dst = append(bytes.TrimRight(dst[:end], " "), ellipsis...)
	}
	return dst
}
