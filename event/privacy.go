package event

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
)

// Addresses says what is kept of mail addresses that are stored or shown.
type Addresses uint8

const (
	// DomainOnly keeps the domain and puts * for the local part.
	DomainOnly Addresses = iota
	// HashLocal puts a keyed hash for the local part: repeats can be told, the
	// person cannot. (A hash without a key could be found by guessing.)
	HashLocal
	// KeepAddresses changes nothing.
	KeepAddresses
)

// Privacy removes from texts what the operator does not want to be kept.
type Privacy struct {
	Addresses Addresses
	Key       []byte // for HashLocal
}

// Append appends text to dst with the local part of every address replaced.
// An address is anything around an @, or around the %40 of a URL.
func (p Privacy) Append(dst, text []byte) []byte {
	if p.Addresses == KeepAddresses {
		return append(dst, text...)
	}
	done := 0 // text[:done] has been appended
	for i := 0; i < len(text); i++ {
		end := i + 1
		switch {
		case text[i] == '@':
		case text[i] == '%' && i+2 < len(text) && text[i+1] == '4' && text[i+2] == '0':
			end = i + 3
		default:
			continue
		}
		start := localPart(text[done:i]) + done
		if start == i && done == i {
			continue // no local part, or one that was replaced just now
		}
		dst = append(dst, text[done:start]...)
		if start < i {
			dst = p.local(dst, text[start:i])
		}
		dst = append(dst, text[i:end]...)
		done, i = end, end-1
	}
	return append(dst, text[done:]...)
}

// AppendAddress appends one address to dst with its local part, all before the
// last @, replaced. An address without an @ is a local part.
func (p Privacy) AppendAddress(dst, address []byte) []byte {
	if p.Addresses == KeepAddresses || len(address) == 0 {
		return append(dst, address...)
	}
	at := bytes.LastIndexByte(address, '@')
	if at < 0 {
		at = len(address)
	}
	return append(p.local(dst, address[:at]), address[at:]...)
}

func (p Privacy) local(dst, local []byte) []byte {
	if p.Addresses == DomainOnly {
		return append(dst, '*')
	}
	m := hmac.New(sha256.New, p.Key)
	m.Write(local)
	return hex.AppendEncode(dst, m.Sum(nil)[:8])
}

// localPart returns where the local part at the end of b begins (RFC 5321
// section 4.1.2, with UTF-8 of RFC 6531).
func localPart(b []byte) int {
	i := len(b)
	if i > 0 && b[i-1] == '"' {
		for i--; i > 0; i-- {
			if b[i-1] == '"' && (i < 2 || b[i-2] != '\\') {
				return i - 1
			}
		}
		return 0 // no opening quote: rather too much than too little
	}
	for i > 0 && isLocal(b[i-1]) {
		i--
	}
	return i
}

// isLocal reports whether c may stand in a local part without quotes.
func isLocal(c byte) bool {
	if isDigit(c) || isLetter(c) || c >= 0x80 {
		return true
	}
	switch c {
	case '!', '#', '$', '%', '&', '\'', '*', '+', '/', '=', '?', '^', '_', '`', '{', '|', '}', '~', '.', '-':
		return true
	}
	return false
}
