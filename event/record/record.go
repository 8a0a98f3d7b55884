// Package record writes the classified record: what happened to one recipient
// of one message, and why, as one line of JSON. It is what the Kafka and file
// sinks hand on and what dialect "bouncemeter" reads back; docs/record.md and
// configs/classified-record.schema.json describe it.
//
// What counting needs survives the way there and back: kind, outcome, first
// outcome, verdict, provider, sender domain and wording. Addresses and texts are
// subject to event.Privacy. The bytes of others can break neither a line nor a
// terminal: a record is UTF-8 without control characters.
package record

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/bouncemeter/bouncemeter/event"
)

// Version is the v of every record. It changes when a field changes its meaning
// or goes; new fields may come at any time.
const Version = 1

// Place is where a record was read: with it, it is the same record however often
// it is read.
type Place struct {
	Source, Lane, Segment string
	Offset                int64
	Index                 int // tells the events of one line apart
}

// IDLength is the length of an id, in bytes.
const IDLength = 32

// AppendID appends the id of the record at p: 128 bits of the SHA-256 of the
// parts of p, in hexadecimal digits.
func (p *Place) AppendID(dst []byte) []byte {
	var buffer [256]byte
	b := buffer[:0]
	for _, s := range [...]string{p.Source, p.Lane, p.Segment} {
		b = strconv.AppendInt(b, int64(len(s)), 10) // parts cannot run into one another
		b = append(append(b, ' '), s...)
	}
	b = strconv.AppendInt(append(b, ' '), p.Offset, 10)
	b = strconv.AppendInt(append(b, ' '), int64(p.Index), 10)
	sum := sha256.Sum256(b)
	return hex.AppendEncode(dst, sum[:IDLength/2])
}

// ID returns the id of a record that Append has made: a part of it.
func ID(record []byte) []byte {
	const start = len(`{"id":"`)
	return record[start : start+IDLength : start+IDLength]
}

// Extra is what a record tells beyond its event. Absent fields are zero.
type Extra struct {
	MTA string // the dialect that the event was read with
	// Code, Enhanced and Stage are those of the innermost reply, where they are
	// known better than by event.Reply.
	Code       uint16
	Enhanced   event.Enhanced
	Stage      event.Stage
	Blocklist  string // the list that the reply names, if Verdict.Blocklist does not
	RetryAfter time.Duration
}

// Describe sets in x what is known of e beyond the event itself. It is called by
// the goroutine of the lane, by several at a time; x is zero before. The event
// comes from the source of that name.
type Describe func(source string, e *event.Event, x *Extra)

// Encoder writes records. It is used by one goroutine.
type Encoder struct {
	Privacy event.Privacy
	// Describe may be nil.
	Describe Describe

	extra   Extra
	scratch []byte
	second  int64 // whose time is in stamp
	stamp   [len("2006-01-02T15:04:05.")]byte
}

// Append appends the record of e, which was read at p, without a line end.
func (c *Encoder) Append(dst []byte, p *Place, e *event.Event) []byte {
	c.extra = Extra{}
	x := &c.extra
	if c.Describe != nil {
		c.Describe(p.Source, e, x)
	}
	dst = append(dst, `{"id":"`...)
	dst = p.AppendID(dst)
	dst = append(dst, `","v":1,"time":"`...)
	dst = c.time(dst, e.Time)
	dst = append(dst, `","kind":"`...)
	dst = append(dst, e.Kind.String()...)
	dst = append(dst, '"')
	dst = text(dst, `,"source":`, p.Source)
	dst = text(dst, `,"lane":`, p.Lane)
	dst = append(dst, `,"position":"`...)
	dst = appendText(dst, p.Segment, false)
	dst = strconv.AppendInt(append(dst, ':'), p.Offset, 10)
	dst = strconv.AppendInt(append(dst, ':'), int64(p.Index), 10)
	dst = append(dst, '"')
	dst = text(dst, `,"host":`, e.Host)
	dst = text(dst, `,"mta":`, x.MTA)
	dst = text(dst, `,"queue_id":`, e.QueueID)
	dst = text(dst, `,"message_id":`, e.MessageID)
	dst = c.sender(dst, e)
	dst = c.address(dst, `,"recipient":`, e.Recipient)
	dst = domain(dst, `,"recipient_domain":`, e.RecipientDomain())
	dst = c.address(dst, `,"original_recipient":`, e.OriginalRecipient)
	dst = text(dst, `,"provider":`, e.Provider)
	dst = text(dst, `,"relay":`, e.Relay)
	dst = text(dst, `,"relay_ip":`, e.RelayIP)
	dst = text(dst, `,"source_ip":`, e.SourceIP)
	dst = text(dst, `,"stream":`, e.Stream)
	dst = flag(dst, `,"local":true`, e.Local)
	dst = text(dst, `,"outcome":`, e.Outcome.String())
	dst = number(dst, `,"attempt":`, int64(e.Attempts))
	dst = flag(dst, `,"first":true`, e.FirstOutcome)
	dst = flag(dst, `,"repeat":true`, e.Repeat)
	dst = c.reply(dst, e, x)
	dst = c.verdict(dst, e, x)
	if x.RetryAfter > 0 {
		dst = seconds(append(dst, `,"retry_after":`...), x.RetryAfter.Microseconds())
	}
	if e.Delay >= 0 {
		dst = seconds(append(dst, `,"delay":`...), e.Delay)
	}
	return append(dst, '}')
}

// time appends a time as RFC 3339 has it, in UTC and with microseconds. Years
// before 1 or after 9999, which it cannot say, become the nearest that it can.
func (c *Encoder) time(dst []byte, micros int64) []byte {
	const first, last = -62135596800 * 1e6, 253402300799*1e6 + 999999
	micros = min(max(micros, first), last)
	second, micros := micros/1e6, micros%1e6
	if micros < 0 {
		second, micros = second-1, micros+1e6
	}
	if second != c.second || c.stamp[0] == 0 {
		c.second = second
		time.Unix(second, 0).UTC().AppendFormat(c.stamp[:0], "2006-01-02T15:04:05.")
	}
	dst = append(dst, c.stamp[:]...)
	dst = sixDigits(dst, micros)
	return append(dst, 'Z')
}

func sixDigits(dst []byte, v int64) []byte {
	return append(dst, byte('0'+v/100000), byte('0'+v/10000%10), byte('0'+v/1000%10), byte('0'+v/100%10), byte('0'+v/10%10), byte('0'+v%10))
}

// sender appends what is known of the sender. The null sender (RFC 5321 section
// 4.5.5) is empty and present; one that no record told is absent.
func (c *Encoder) sender(dst []byte, e *event.Event) []byte {
	d := e.SenderDomain
	known := e.SenderKnown
	if known && d == nil {
		d = event.Domain(e.Sender)
		known = d != nil || len(e.Sender) == 0 // a sender without a domain counts as unknown
	}
	if known && len(d) == 0 && len(e.Sender) == 0 {
		return append(dst, `,"sender":"","sender_domain":""`...)
	}
	if e.SenderHidden { // a hash of a hash would be another person
		dst = text(dst, `,"sender":`, e.Sender)
	} else {
		dst = c.address(dst, `,"sender":`, e.Sender)
	}
	if known {
		dst = quoteDomain(append(dst, `,"sender_domain":`...), d)
	}
	return dst
}

func (c *Encoder) reply(dst []byte, e *event.Event, x *Extra) []byte {
	r := &e.Reply
	code, enhanced, stage := r.Code, r.Enhanced, r.Stage
	if x.Code != 0 {
		code = x.Code
	}
	if !x.Enhanced.IsZero() {
		enhanced = x.Enhanced
	}
	if x.Stage != event.StageUnknown {
		stage = x.Stage
	}
	dst = number(dst, `,"code":`, int64(code))
	dst = enhancedCode(dst, `,"enhanced":"`, enhanced)
	dst = enhancedCode(dst, `,"status":"`, r.Status)
	dst = text(dst, `,"stage":`, stage.String())
	dst = text(dst, `,"origin":`, r.Origin.String())
	if len(r.Text) > 0 {
		reply := r.Text
		if c.Privacy.Addresses != event.KeepAddresses && (bytes.IndexByte(reply, '@') >= 0 || bytes.IndexByte(reply, '%') >= 0) {
			c.scratch = c.Privacy.Append(c.scratch[:0], reply)
			reply = c.scratch
		}
		dst = append(dst, `,"text":"`...)
		dst = append(appendText(dst, reply, true), '"')
	}
	return dst
}

func (c *Encoder) verdict(dst []byte, e *event.Event, x *Extra) []byte {
	v := &e.Verdict
	if v.Category != event.Unset {
		info := v.Category.Info()
		dst = text(dst, `,"category":`, info.ID)
		dst = text(dst, `,"secondary":`, v.Secondary.String())
		dst = text(dst, `,"group":`, info.Group)
		dst = text(dst, `,"owner":`, info.Owner)
		dst = text(dst, `,"persistence":`, v.Persistence.String())
		dst = append(dst, `,"confidence":`...)
		dst = strconv.AppendFloat(dst, float64(min(max(v.Confidence, 0), 1)), 'f', -1, 32)
		dst = text(dst, `,"rule":`, v.Rule)
	}
	if v.Blocklist != "" {
		dst = text(dst, `,"blocklist":`, v.Blocklist)
	} else {
		dst = text(dst, `,"blocklist":`, x.Blocklist)
	}
	if v.Template != 0 {
		var b [8]byte
		for i := range b {
			b[i] = byte(v.Template >> (56 - 8*i))
		}
		dst = hex.AppendEncode(append(dst, `,"template":"`...), b[:])
		dst = append(dst, '"')
	}
	return dst
}

func (c *Encoder) address(dst []byte, key string, address []byte) []byte {
	if len(address) == 0 {
		return dst
	}
	if c.Privacy.Addresses != event.KeepAddresses {
		c.scratch = c.Privacy.AppendAddress(c.scratch[:0], address)
		address = c.scratch
	}
	return text(dst, key, address)
}

// The fields of a record: each helper appends the key, which has the comma
// before it, and the value, or nothing if the value is not known.

func text[T string | []byte](dst []byte, key string, value T) []byte {
	if len(value) == 0 {
		return dst
	}
	dst = append(append(dst, key...), '"')
	return append(appendText(dst, value, false), '"')
}

func domain(dst []byte, key string, value []byte) []byte {
	if len(value) == 0 {
		return dst
	}
	return quoteDomain(append(dst, key...), value)
}

// quoteDomain appends a domain in lower case, as a JSON string.
func quoteDomain(dst, value []byte) []byte {
	dst = append(dst, '"')
	start := len(dst)
	dst = appendText(dst, value, false)
	for i, b := range dst[start:] {
		if b >= 'A' && b <= 'Z' { // no escape has one
			dst[start+i] = b + ('a' - 'A')
		}
	}
	return append(dst, '"')
}

func number(dst []byte, key string, value int64) []byte {
	if value == 0 {
		return dst
	}
	return strconv.AppendInt(append(dst, key...), value, 10)
}

func flag(dst []byte, member string, set bool) []byte {
	if !set {
		return dst
	}
	return append(dst, member...)
}

func enhancedCode(dst []byte, key string, code event.Enhanced) []byte {
	if code.IsZero() {
		return dst
	}
	return append(code.Append(append(dst, key...)), '"')
}

// seconds appends a length of time in seconds, with as many decimals as it needs.
func seconds(dst []byte, micros int64) []byte {
	dst = strconv.AppendInt(dst, micros/1e6, 10)
	micros %= 1e6
	if micros == 0 {
		return dst
	}
	dst = sixDigits(append(dst, '.'), micros)
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	return dst
}

// appendText appends the inside of a JSON string.
//
// In a name, control characters of ASCII and runs of bytes that are no UTF-8
// become a question mark: so do they where names are counted. In prose, control
// characters become spaces, and bytes that are no UTF-8 the characters of ISO
// 8859-1: so are they read where replies are classified. Other control
// characters, line separators and marks of writing direction, which can hide what
// a terminal or an editor shows, are escaped and so survive.
func appendText[T string | []byte](dst []byte, s T, prose bool) []byte {
	start := 0 // s[start:i] goes out as it is
	for i := 0; i < len(s); {
		b := s[i]
		if plain[b] {
			i++
			continue
		}
		r, n := decode(s[i:])
		invalid := r == utf8.RuneError && n == 1
		if !invalid && r >= utf8.RuneSelf && !acts(r) {
			i += n
			continue
		}
		dst = append(dst, s[start:i]...)
		i += n
		switch {
		case b == '"' || b == '\\':
			dst = append(dst, '\\', b)
		case b < utf8.RuneSelf && prose:
			dst = append(dst, ' ')
		case b < utf8.RuneSelf:
			dst = append(dst, '?')
		case invalid && !prose:
			dst = append(dst, '?')
			for i < len(s) {
				if r, n := decode(s[i:]); r != utf8.RuneError || n != 1 {
					break
				}
				i++
			}
		case invalid && b > 0x9f:
			dst = utf8.AppendRune(dst, rune(b))
		case invalid:
			dst = appendEscape(dst, rune(b))
		default:
			dst = appendEscape(dst, r)
		}
		start = i
	}
	return append(dst, s[start:]...)
}

func appendEscape(dst []byte, r rune) []byte {
	const digits = "0123456789abcdef"
	return append(dst, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}

// plain marks the bytes that stand for themselves.
var plain = func() (t [256]bool) {
	for b := ' '; b < 0x7f; b++ {
		t[b] = b != '"' && b != '\\'
	}
	return t
}()

func decode[T string | []byte](s T) (rune, int) {
	var b [utf8.UTFMax]byte
	n := copy(b[:], s)
	return utf8.DecodeRune(b[:n])
}

// acts reports whether r acts on the characters around it: the controls of ISO
// 8859, the marks and overrides of writing direction, line and paragraph
// separators, the byte order mark. All of them are below 0x10000.
func acts(r rune) bool {
	switch {
	case r >= 0x80 && r <= 0x9f, r == 0x61c, r == 0x200e, r == 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0xfeff:
		return true
	}
	return false
}
