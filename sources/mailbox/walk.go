package mailbox

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Message is one mail that was found.
type Message struct {
	Path   string // "-" for standard input
	Offset int64  // where it begins in an mbox; zero otherwise
	Text   []byte // valid during the call only
	// Truncated tells that only its beginning is here.
	Truncated bool
}

// Walk calls yield for every message at paths: a file is a message or an mbox
// (it begins with "From "), a folder is a Maildir or holds such files, "-" is
// stdin. Folders are read in order of names. It stops at the first error, its
// own or yield's.
func Walk(paths []string, stdin io.Reader, maxMessageBytes int, yield func(Message) error) error {
	for _, path := range paths {
		var err error
		if path == "-" {
			err = one("-", stdin, maxMessageBytes, yield)
		} else {
			err = walk(path, maxMessageBytes, yield)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func walk(path string, limit int, yield func(Message) error) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("read messages: %w", err)
	}
	if !info.IsDir() {
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("read messages: %w", err)
		}
		return errors.Join(one(path, f, limit, yield), f.Close())
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return fmt.Errorf("read messages: %w", err)
	}
	for _, e := range entries {
		if e.Name()[0] == '.' || e.Name() == "tmp" { // tmp: deliveries under way
			continue
		}
		if err := walk(filepath.Join(path, e.Name()), limit, yield); err != nil {
			return err
		}
	}
	return nil
}

var fromLine = []byte("From ")

// one reads a stream that is a message or an mbox (RFC 4155). In an mbox a
// message begins at a line "From " after an empty line.
func one(path string, r io.Reader, limit int, yield func(Message) error) error {
	in := bufio.NewReaderSize(r, 64<<10)
	start, _ := in.Peek(len(fromLine)) // what is shorter is no mbox
	mbox := bytes.Equal(start, fromLine)
	m := Message{Path: path}
	var text []byte
	var at int64
	empty, begun := false, false
	flush := func() error {
		if !begun {
			return nil
		}
		m.Text = text
		return yield(m)
	}
	for {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 {
			if mbox && bytes.HasPrefix(line, fromLine) && (empty || !begun) {
				if err := flush(); err != nil {
					return err
				}
				m, text = Message{Path: path, Offset: at}, text[:0]
			}
			begun = true
			if room := limit - len(text); len(line) > room {
				m.Truncated = true
				text = append(text, line[:max(room, 0)]...)
			} else {
				text = append(text, line...)
			}
			at += int64(len(line))
			empty = len(bytes.TrimRight(line, "\r\n")) == 0
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull): // a long line goes on
		case errors.Is(err, io.EOF):
			return flush()
		case err != nil:
			return fmt.Errorf("read messages of %s: %w", path, err)
		}
	}
}
