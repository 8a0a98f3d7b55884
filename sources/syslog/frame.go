package syslog

import (
	"bytes"
	"errors"
)

// errFrame ends a connection: where the next message begins can no longer be
// known.
var errFrame = errors.New("the stream is not framed as RFC 6587 says; its sender speaks something else, or counts wrong")

const (
	// maxCount bounds the count in front of a message. A larger one is no
	// message, but a stream that has come out of step.
	maxCount = 16 << 20
	// countDigits is how many digits that takes.
	countDigits = 8
)

// framer takes the messages out of the bytes of one connection. Whether they are
// counted or end with a line feed, the first byte tells (RFC 6587 section 3.4): a
// digit begins a count, anything else a message.
//
// It keeps no bytes: what it has not used has to come again, with more after it.
type framer struct {
	max int // how much of a message is kept

	begun   bool
	counted bool
	skip    int  // counted: bytes of a message that are too many
	toEnd   bool // else: the rest of the line is
}

// next returns the next message in data, or nil if there is none yet, and how
// many bytes are used. A message longer than max is truncated, and nil a rest
// that was skipped. A message is not empty.
func (f *framer) next(data []byte) (message []byte, truncated bool, used int, err error) {
	if !f.begun && len(data) > 0 {
		f.begun, f.counted = true, data[0] >= '0' && data[0] <= '9'
	}
	if f.counted {
		return f.nextCounted(data)
	}
	message, truncated, used = f.nextLine(data)
	return message, truncated, used, nil
}

// nextCounted reads "LENGTH MESSAGE" (RFC 6587 section 3.4.1, RFC 5425 section
// 4.3). A few senders write a line feed after the message without counting it.
func (f *framer) nextCounted(data []byte) (message []byte, truncated bool, used int, err error) {
	if f.skip > 0 {
		n := min(f.skip, len(data))
		f.skip -= n
		used = n
		data = data[n:]
	}
	for len(data) > 0 && data[0] == '\n' {
		data, used = data[1:], used+1
	}
	count, digits := 0, 0
	for digits < len(data) && data[digits] >= '0' && data[digits] <= '9' {
		if count = count*10 + int(data[digits]-'0'); count == 0 || digits == countDigits {
			return nil, false, used, errFrame
		}
		digits++
	}
	switch {
	case digits == len(data):
		return nil, false, used, nil // the count goes on
	case digits == 0 || data[digits] != ' ' || count > maxCount:
		return nil, false, used, errFrame
	}
	data = data[digits+1:]
	if keep := min(count, f.max); len(data) >= keep {
		f.skip = count - keep
		return data[:keep], f.skip > 0, used + digits + 1 + keep, nil
	}
	return nil, false, used, nil
}

// nextLine reads a message up to a line feed, or the NUL that some senders write
// (RFC 6587 section 3.4.2).
func (f *framer) nextLine(data []byte) (message []byte, truncated bool, used int) {
	for {
		end := bytes.IndexByte(data, '\n')
		line := data
		if end >= 0 {
			line = data[:end]
		}
		if nul := bytes.IndexByte(line, 0); nul >= 0 {
			end, line = nul, line[:nul]
		}
		switch {
		case end < 0 && f.toEnd:
			return nil, false, used + len(data)
		case end < 0 && len(data) <= f.max+1: // it may be just long enough, with its CR
			return nil, false, used
		case end < 0:
			f.toEnd = true
			return data[:f.max], true, used + len(data)
		}
		data, used = data[end+1:], used+end+1
		if f.toEnd {
			f.toEnd = false
			continue
		}
		if line = bytes.TrimSuffix(line, []byte{'\r'}); len(line) > f.max {
			return line[:f.max], true, used
		}
		if len(line) > 0 {
			return line, false, used
		}
	}
}

// skipping reports whether the rest of a truncated message is still to come.
func (f *framer) skipping() bool { return f.toEnd || f.skip > 0 }

// room is how large a buffer has to be for next to always get on.
func (f *framer) room() int { return f.max + countDigits + 2 }
