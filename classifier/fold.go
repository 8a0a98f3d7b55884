package classifier

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// folded maps a rune below its length to its lower case without accents: up to
// two runes, none for a combining mark. Both texts and rules pass through it, so
// it only matters that equal words stay equal.
var folded = func() (t [0x2000][2]uint16) {
	for r := range rune(len(t)) {
		if r >= 0x80 && unicode.In(r, unicode.Mn, unicode.Cf) {
			continue
		}
		if r >= 0x80 && (unicode.IsPunct(r) || unicode.IsSymbol(r)) { // «, ¿, the comma of Arabic
			t[r][0] = ' '
			continue
		}
		t[r][0] = uint16(unicode.ToLower(r))
		if r < 0xc0 || 0x370 > r && r >= 0x250 || r >= 0x590 && r < 0x1e00 {
			continue
		}
		d := []rune(norm.NFKD.String(string(unicode.ToLower(r))))
		if len(d) > 0 && d[0] < 0xffff {
			t[r][0] = uint16(d[0])
		}
	}
	for r, s := range map[rune]string{
		'ß': "ss", 'æ': "ae", 'Æ': "ae", 'œ': "oe", 'Œ': "oe", 'ø': "o", 'Ø': "o", 'ł': "l", 'Ł': "l",
		'đ': "d", 'Đ': "d", 'ð': "d", 'Ð': "d", 'þ': "th", 'Þ': "th", 'ı': "i", 'ς': "σ", 0xa0: " ", 0x85: " ",
	} {
		t[r] = [2]uint16{}
		for i, c := range []rune(s) {
			t[r][i] = uint16(c)
		}
	}
	return t
}()

// foldRune appends the folded form of r, as UTF-8; a space stands for what
// separates words.
func foldRune(dst []byte, r rune) []byte {
	switch {
	case r < rune(len(folded)):
		f := folded[r]
		if f[0] == 0 {
			return dst
		}
		dst = utf8.AppendRune(dst, rune(f[0]))
		if f[1] != 0 {
			dst = utf8.AppendRune(dst, rune(f[1]))
		}
		return dst
	case r >= 0xff01 && r <= 0xff5e: // full-width ASCII
		if c := byte(r - 0xfee0); class[c]&(letter|digit) != 0 {
			return append(dst, lower[c])
		}
		return append(dst, ' ')
	case r >= 0x2018 && r <= 0x201b: // typographic apostrophes
		return append(dst, '\'')
	case r >= 0x2000 && r < 0x2e80, r >= 0x3000 && r < 0x3040, r >= 0xfe00 && r < 0xfe70, r >= 0xff5f && r < 0xff66, r == utf8.RuneError:
		return append(dst, ' ') // punctuation and symbols
	}
	return utf8.AppendRune(dst, r)
}

// windows1252 undoes what reading UTF-8 as Windows-1252 makes of the bytes
// 0x80 to 0x9f.
var windows1252 = map[rune]byte{
	'€': 0x80, '‚': 0x82, 'ƒ': 0x83, '„': 0x84, '…': 0x85, '†': 0x86, '‡': 0x87, 'ˆ': 0x88, '‰': 0x89, 'Š': 0x8a,
	'‹': 0x8b, 'Œ': 0x8c, 'Ž': 0x8e, '‘': 0x91, '’': 0x92, '“': 0x93, '”': 0x94, '•': 0x95, '–': 0x96, '—': 0x97,
	'˜': 0x98, '™': 0x99, 'š': 0x9a, '›': 0x9b, 'œ': 0x9c, 'ž': 0x9e, 'Ÿ': 0x9f,
}

// decode reads one rune from b, which need not be UTF-8: a byte that is not
// part of a valid sequence counts as Latin-1, and a sequence that was read as
// Latin-1 and encoded once more ("Ã©") is put right.
func decode(b []byte) (rune, int) {
	r, n := utf8.DecodeRune(b)
	if r == utf8.RuneError && n == 1 {
		return rune(b[0]), 1
	}
	if r < 0xc2 || r > 0xef || n != 2 {
		return r, n
	}
	// r may be the first byte of a sequence: two or three runes that stand for
	// bytes, of which all but the first are continuation bytes.
	var raw [3]byte
	raw[0] = byte(r)
	end := n
	want := 2
	if r >= 0xe0 {
		want = 3
	}
	for i := 1; i < want; i++ {
		c, m := utf8.DecodeRune(b[end:])
		if v, ok := windows1252[c]; ok {
			c = rune(v)
		}
		if c < 0x80 || c > 0xbf || m < 2 {
			return r, n
		}
		raw[i] = byte(c)
		end += m
	}
	if x, m := utf8.DecodeRune(raw[:want]); m == want && x != utf8.RuneError {
		return x, end
	}
	return r, n
}
