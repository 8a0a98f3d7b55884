package dialect

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// Why a record is no JSON that can be read.
var (
	errJSONEnd      = fmt.Errorf("%w: the JSON ends too early", ErrMalformed)
	errJSONSyntax   = fmt.Errorf("%w: not JSON", ErrMalformed)
	errJSONString   = fmt.Errorf("%w: a JSON string has a control character or a wrong escape", ErrMalformed)
	errJSONNumber   = fmt.Errorf("%w: a JSON number is written wrongly", ErrMalformed)
	errJSONDepth    = fmt.Errorf("%w: the JSON is nested deeper than 64 levels", ErrMalformed)
	errJSONTrailing = fmt.Errorf("%w: something follows the JSON value", ErrMalformed)
	errJSONType     = fmt.Errorf("%w: a member's value is of another type than the format says", ErrMalformed)
)

// jsonDepth is how deep objects and arrays may be nested: as many levels as a
// word has bits. No format needs more than ten.
const jsonDepth = 64

// arena is the memory for parts of events that do not stand in the line as they
// are: strings with escapes, replies put together from several members. It is
// handed out piece by piece and never used again, since events live as long as
// their batch, or longer; the collector takes a piece once no event needs it.
type arena struct{ b []byte }

const (
	arenaPiece = 32 << 10
	arenaSpare = 4 << 10 // more than most records need
)

// ready makes sure that there is some room, so that a record rarely outgrows
// the piece.
func (a *arena) ready() {
	if cap(a.b)-len(a.b) < arenaSpare {
		a.b = make([]byte, 0, arenaPiece)
	}
}

// since returns what was appended after the arena had the length start.
func (a *arena) since(start int) []byte { return a.b[start:len(a.b):len(a.b)] }

// walker reads one JSON value (RFC 8259) from its beginning to its end, without
// recursion and without allocating. Objects and arrays are loops, in the body of
// which every value is taken by exactly one call:
//
//	for more := w.object(); more; more = w.member() {
//		switch string(w.key) {
//		case "id":
//			id = w.text()
//		default:
//			w.skip()
//		}
//	}
//	if err := w.end(); err != nil …
//
// The first fault ends all loops and stays in err; what was read before it is
// void. All of the value is checked, also what is skipped, with one exception:
// whether strings are UTF-8. Their bytes are handed on as they are.
type walker struct {
	b     []byte
	i     int
	depth int
	err   error
	// key is the name of the member that the loop is at.
	key   []byte
	arena *arena
}

// start makes w ready to read b; strings with escapes go to a.
func (w *walker) start(b []byte, a *arena) { *w = walker{b: b, arena: a} }

// end returns why the value cannot be read, if it cannot, or if something
// follows it.
func (w *walker) end() error {
	if w.err == nil && w.peek() != 0 {
		w.err = errJSONTrailing
	}
	return w.err
}

// recover makes w ready to go on after an element of the outermost array that
// starts at start and could not be taken. It returns the index after it: that of
// the end where the element has none.
func (w *walker) recover(start int) int {
	if w.err == nil {
		return w.i
	}
	w.err, w.i, w.depth = nil, start, 1
	if w.skip(); w.err == nil {
		return w.i // well-formed, but not what belongs there
	}
	w.err, w.i, w.depth = nil, start, 1
	c, n := w.peek(), 0
	switch b := w.b[w.i:]; {
	case c == '{', c == '[':
		n = jsonNested(b)
	case c == '"':
		n = closingQuote(b, 0) + 1
	default:
		n = max(bytes.IndexAny(b, ",]"), 0)
	}
	if n == 0 {
		n = len(w.b) - w.i
	}
	w.err, w.i = nil, w.i+n
	return w.i
}

func (w *walker) fail(err error) {
	if w.err == nil {
		w.err = err
	}
	w.i = len(w.b)
}

// peek returns the first byte of what follows white space, or 0 at the end.
func (w *walker) peek() byte {
	for w.i < len(w.b) {
		c := w.b[w.i]
		if c > ' ' {
			return c
		}
		if c != ' ' && c != '\n' && c != '\r' && c != '\t' {
			w.fail(errJSONSyntax)
			return 0
		}
		w.i++
	}
	return 0
}

// expect is fail for a byte that is not what the grammar wants, c being 0 for
// none at all.
func (w *walker) expect(c byte) {
	if c == 0 && w.i >= len(w.b) {
		w.fail(errJSONEnd)
	} else {
		w.fail(errJSONSyntax)
	}
}

// object enters an object and is at its first member; it returns false if there
// is none, or null for the object.
func (w *walker) object() bool {
	if !w.enter('{') {
		return false
	}
	if c := w.peek(); c == '}' {
		w.i++
		w.depth--
		return false
	}
	return w.name()
}

// member goes to the next member of the object, and leaves the object if there
// is none.
func (w *walker) member() bool {
	switch c := w.peek(); c {
	case ',':
		w.i++
		w.peek()
		return w.name()
	case '}':
		w.i++
		w.depth--
	default:
		w.expect(c)
	}
	return false
}

// array enters an array and is at its first element; it returns false if there
// is none, or null for the array.
func (w *walker) array() bool {
	if !w.enter('[') {
		return false
	}
	if c := w.peek(); c == ']' {
		w.i++
		w.depth--
		return false
	}
	return w.err == nil
}

// element goes to the next element of the array, and leaves the array if there
// is none.
func (w *walker) element() bool {
	switch c := w.peek(); c {
	case ',':
		w.i++
		return true
	case ']':
		w.i++
		w.depth--
	default:
		w.expect(c)
	}
	return false
}

func (w *walker) enter(bracket byte) bool {
	switch c := w.peek(); {
	case c == bracket:
		if w.depth == jsonDepth {
			w.fail(errJSONDepth)
			return false
		}
		w.depth++
		w.i++
		return true
	case c == 'n':
		w.literal("null")
	case c == 0:
		w.expect(c)
	default:
		w.skip() // tell bad JSON from a good value in the wrong place
		w.fail(errJSONType)
	}
	return false
}

// name reads the name of a member, which is next, and the colon.
func (w *walker) name() bool {
	if w.i >= len(w.b) || w.b[w.i] != '"' {
		w.expect(w.peek())
		return false
	}
	w.key = w.str()
	if w.i < len(w.b) && w.b[w.i] == ':' {
		w.i++
		return true
	}
	if c := w.peek(); c != ':' {
		w.expect(c)
		return false
	}
	w.i++
	return true
}

// text takes a string, without its quotes and escapes, or a number or truth value
// as it is written. Null is nil, and an empty string is not.
func (w *walker) text() []byte {
	switch c := w.peek(); c {
	case '"':
		return w.str()
	case 'n':
		w.literal("null")
		return nil
	case '{', '[':
		w.skip()
		w.fail(errJSONType)
		return nil
	default:
		return w.raw()
	}
}

// number takes a number, or a string that holds one, and returns it times ten to
// the power of scale, cut. It is 0 and false for null and an empty string; it is
// a fault if it is no number or does not fit.
func (w *walker) number(scale int) (n int64, ok bool) {
	b := w.text()
	if len(b) == 0 {
		return 0, false
	}
	if n, ok = decimal(b, scale); !ok {
		w.fail(errJSONType)
	}
	return n, ok
}

// raw takes any value and returns it as it is written.
func (w *walker) raw() []byte {
	w.peek()
	start := w.i
	w.skip()
	if w.err != nil {
		return nil
	}
	return w.b[start:w.i]
}

// skip takes any value and checks it.
func (w *walker) skip() {
	var (
		objects uint64 // bit n is 1 if the container at depth n is an object
		base    = w.depth
	)
	for {
		switch c := w.peek(); c {
		case '"':
			w.skipString()
		case '{', '[':
			if w.depth == jsonDepth {
				w.fail(errJSONDepth)
				return
			}
			w.i++
			objects &^= 1 << w.depth
			if c == '{' {
				objects |= 1 << w.depth
			}
			w.depth++
			closing := c + 2 // in ASCII, as it happens
			if next := w.peek(); next == closing {
				w.i++
				w.depth--
			} else if c == '[' {
				continue
			} else if w.skipName() {
				continue
			}
		case 't':
			w.literal("true")
		case 'f':
			w.literal("false")
		case 'n':
			w.literal("null")
		default:
			w.skipNumber()
		}
		// A value is over. What follows it?
		for {
			if w.err != nil {
				return
			}
			if w.depth == base {
				return
			}
			object := objects>>(w.depth-1)&1 != 0
			c := w.peek()
			if c == ',' {
				w.i++
				if object {
					w.peek()
					if !w.skipName() {
						return
					}
				}
				break
			}
			if object && c == '}' || !object && c == ']' {
				w.i++
				w.depth--
				continue
			}
			w.expect(c)
			return
		}
	}
}

// skipName is name for a member that does not matter.
func (w *walker) skipName() bool {
	if w.i >= len(w.b) || w.b[w.i] != '"' {
		w.expect(w.peek())
		return false
	}
	w.skipString()
	if c := w.peek(); c != ':' {
		w.expect(c)
		return false
	}
	w.i++
	return true
}

func (w *walker) literal(s string) {
	if !hasPrefix(w.b[w.i:], s) {
		w.fail(errJSONSyntax)
		return
	}
	w.i += len(s)
}

// plain returns the index of the first byte of b[i:] that is a quote, a
// backslash or a control character, or len(b).
func plain(b []byte, i int) int {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	for ; i+8 <= len(b); i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		quote, slash := x^'"'*ones, x^'\\'*ones
		// The lowest high bit that is set is that of the first such byte: a
		// borrow reaches only bytes after it.
		if m := ((quote-ones)&^quote | (slash-ones)&^slash | (x-' '*ones)&^x) & high; m != 0 {
			return i + bits.TrailingZeros64(m)/8
		}
	}
	for i < len(b) && b[i] != '"' && b[i] != '\\' && b[i] >= ' ' {
		i++
	}
	return i
}

// str takes a string, at whose opening quote w is.
func (w *walker) str() []byte {
	start := w.i + 1
	end := plain(w.b, start)
	if end < len(w.b) && w.b[end] == '"' {
		w.i = end + 1
		return w.b[start:end:end]
	}
	return w.unescape(start, end)
}

// unescape takes the string that starts at start and has no escape before i.
func (w *walker) unescape(start, i int) []byte {
	a := w.arena
	begin := len(a.b)
	for {
		if i >= len(w.b) {
			w.fail(errJSONEnd)
			return nil
		}
		a.b = append(a.b, w.b[start:i]...)
		switch w.b[i] {
		case '"':
			w.i = i + 1
			return a.since(begin)
		case '\\':
		default:
			w.fail(errJSONString)
			return nil
		}
		r, n := escape(w.b[i:])
		if n == 0 {
			w.fail(errJSONString)
			return nil
		}
		a.b = utf8.AppendRune(a.b, r)
		start = i + n
		i = plain(w.b, start)
	}
}

// escape reads the escape at the start of b and returns it with its length, or 0
// if it is none. Half of a surrogate pair is the replacement character.
func escape(b []byte) (r rune, n int) {
	if len(b) < 2 {
		return 0, 0
	}
	switch b[1] {
	case '"', '\\', '/':
		return rune(b[1]), 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
	default:
		return 0, 0
	}
	r, ok := hex4(b[2:])
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if len(b) >= 12 && b[6] == '\\' && b[7] == 'u' {
		if second, ok := hex4(b[8:]); ok {
			if pair := utf16.DecodeRune(r, second); pair != utf8.RuneError {
				return pair, 12
			}
		}
	}
	return utf8.RuneError, 6
}

func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case isDigit(c):
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// skipString checks a string, at whose opening quote w is.
func (w *walker) skipString() {
	i := w.i + 1
	for {
		i = plain(w.b, i)
		if i >= len(w.b) {
			w.fail(errJSONEnd)
			return
		}
		switch w.b[i] {
		case '"':
			w.i = i + 1
			return
		case '\\':
			_, n := escape(w.b[i:])
			if n > 0 {
				i += n
				continue
			}
		}
		w.fail(errJSONString)
		return
	}
}

// skipNumber checks a number (RFC 8259 section 6).
func (w *walker) skipNumber() {
	b, i := w.b, w.i
	if i < len(b) && b[i] == '-' {
		i++
	}
	start := i
	i = digitsEnd(b, i)
	if i == start {
		if i == w.i {
			w.expect(w.peek()) // no value at all
		} else {
			w.fail(errJSONNumber)
		}
		return
	}
	if b[start] == '0' && i > start+1 {
		w.fail(errJSONNumber)
		return
	}
	if i < len(b) && b[i] == '.' {
		start = i + 1
		if i = digitsEnd(b, start); i == start {
			w.fail(errJSONNumber)
			return
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		start = i
		if i = digitsEnd(b, start); i == start {
			w.fail(errJSONNumber)
			return
		}
	}
	w.i = i
}

// digitsEnd returns the index after the digits at b[i:].
func digitsEnd(b []byte, i int) int {
	for i < len(b) && isDigit(b[i]) {
		i++
	}
	return i
}

// decimal returns a decimal number, which may have a sign, a fraction and an
// exponent, times ten to the power of scale. What is left of the fraction is cut.
// It is false if b is none or the result does not fit.
func decimal(b []byte, scale int) (n int64, ok bool) {
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		b = b[1:]
	}
	whole := digitsEnd(b, 0)
	end := whole
	if end < len(b) && b[end] == '.' {
		end = digitsEnd(b, whole+1)
		if end == whole+1 {
			return 0, false
		}
	}
	if whole == 0 {
		return 0, false
	}
	take := whole + scale // this many digits, and then zeros
	if end < len(b) && b[end]|0x20 == 'e' {
		exponent, ok := exponent(b[end+1:])
		if !ok {
			return 0, false
		}
		take += exponent
	} else if end < len(b) {
		return 0, false
	}
	const limit = 1<<63 - 1
	for i := 0; take > 0; take-- {
		digit := int64(0)
		if i == whole {
			i++ // the point
		}
		if i < end {
			digit = int64(b[i] - '0')
			i++
		} else if n == 0 {
			break
		}
		if n > (limit-digit)/10 {
			return 0, false
		}
		n = n*10 + digit
	}
	if negative {
		n = -n
	}
	return n, true
}

// exponent reads what follows the e of a number. Those beyond any use are all
// alike.
func exponent(b []byte) (n int, ok bool) {
	negative := len(b) > 0 && b[0] == '-'
	if negative || len(b) > 0 && b[0] == '+' {
		b = b[1:]
	}
	if len(b) == 0 || !areDigits(b) {
		return 0, false
	}
	for _, c := range b {
		n = min(n*10+int(c-'0'), 1<<30)
	}
	if negative {
		n = -n
	}
	return n, true
}
