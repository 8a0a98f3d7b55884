package rig

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/internal/simulate"
)

// Writer writes a log, line by line and in halves of lines, and rotates it.
type Writer struct {
	Path string // the live log
	All  string // everything ever written, for the one-shot count
	// Step is how far the log's clock goes on between two writes at the most.
	Step time.Duration
	// Rotate is about how many writes there are between two rotations.
	Rotate int
	// Bytes and Rotations are what it has done.
	Bytes     int64
	Rotations int

	live, log *os.File
	mta       *simulate.Simulator
	random    *rand.Rand
	now       time.Time
	pending   bytes.Buffer // written by the simulator, not yet to the files
}

// NewWriter makes a log in dir that begins four days ago.
func NewWriter(t testing.TB, dir string, seed uint64) *Writer {
	t.Helper()
	w := &Writer{
		Path: filepath.Join(dir, "mail.log"), All: filepath.Join(dir, "everything"), Step: 20 * time.Second, Rotate: 60,
		random: rand.New(rand.NewPCG(seed, 2)), now: time.Now().Add(-4 * 24 * time.Hour),
	}
	var err error
	if w.mta, err = simulate.New(simulate.Config{Seed: seed, Start: w.now, Rate: 5, Lifetime: 12 * time.Hour}); err != nil {
		t.Fatal(err)
	}
	if w.log, err = os.Create(w.All); err != nil {
		t.Fatal(err)
	}
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = w.live.Close(), w.log.Close() })
	return w
}

func (w *Writer) open() (err error) {
	w.live, err = os.OpenFile(w.Path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	return err
}

// Run writes until ctx is done.
func (w *Writer) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Duration(w.random.IntN(10)) * time.Millisecond):
		}
		w.now = w.now.Add(time.Duration(w.random.Int64N(int64(w.Step))))
		if _, err := w.mta.WriteUntil(&w.pending, w.now); err != nil {
			return err
		}
		if err := w.write(w.random.IntN(w.pending.Len() + 1)); err != nil {
			return err
		}
		if w.random.IntN(w.Rotate) == 0 {
			if err := w.rotate(); err != nil {
				return fmt.Errorf("rotate: %w", err)
			}
		}
	}
}

func (w *Writer) write(n int) error {
	b := w.pending.Next(n)
	w.Bytes += int64(len(b))
	_, err := io.MultiWriter(w.live, w.log).Write(b)
	return err
}

// Finish writes the rest, so that the log ends with a line.
func (w *Writer) Finish() error { return w.write(w.pending.Len()) }

// rotate does what logrotate does, in one of its ways. What is written is
// never in the middle of a line, as with a real MTA that is told to reopen.
func (w *Writer) rotate() error {
	if err := w.Finish(); err != nil {
		return err
	}
	w.Rotations++
	for i := w.Rotations; i > 0; i-- {
		for _, suffix := range []string{"", ".gz"} {
			err := os.Rename(fmt.Sprintf("%s.%d%s", w.Path, i, suffix), fmt.Sprintf("%s.%d%s", w.Path, i+1, suffix))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	if w.random.IntN(3) == 0 { // copytruncate
		if err := copyFile(w.Path+".1", w.Path); err != nil {
			return err
		}
		return w.live.Truncate(0)
	}
	if err := os.Rename(w.Path, w.Path+".1"); err != nil {
		return err
	}
	if err := w.live.Close(); err != nil {
		return err
	}
	if err := w.open(); err != nil {
		return err
	}
	if w.random.IntN(2) == 0 { // delaycompress
		if _, err := os.Stat(w.Path + ".2"); err == nil {
			return compress(w.Path + ".2")
		}
	}
	return nil
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func compress(path string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.Create(path + ".gz")
	if err != nil {
		return err
	}
	z := gzip.NewWriter(out)
	_, err = io.Copy(z, in)
	return errors.Join(err, z.Close(), out.Close(), os.Remove(path))
}
