package tail

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

// Files reads finished files once, one after the other, as a finite lane. Its
// methods are called by one goroutine, apart from Progress.
type Files struct {
	name string
	max  int
	// incomplete is FilesOptions.Incomplete.
	incomplete func(path string)
	total      int64                // bytes of all files, negative if unknown
	done       atomic.Int64         // bytes of the files that were read
	reading    atomic.Pointer[file] // for Progress

	files []*file // not yet read to their end; the first is being read
	r     *reader // of files[0], nil before its first read
}

// FilesOptions are the options of OpenFiles. The zero value means defaults.
type FilesOptions struct {
	// MaxLineBytes is as in Config.
	MaxLineBytes int
	// Stdin is read where a path is "-". Default os.Stdin.
	Stdin *os.File
	// Incomplete is called for a compressed file that has no end, as one that is
	// still being written: it was read as far as it goes, without the unfinished
	// last line. Without it such a file is an error.
	Incomplete func(path string)
}

// OpenFiles opens files that are to be read once: text, or compressed text
// (.gz, .zst, .bz2, .xz, told by the content). JSON that is written over several
// lines is read as one record a line. "-" is standard input. They are
// read in the given order, except that rotations of one log are put in its
// place from old to new. Everything that keeps a file from being read is
// reported here, before anything is read, and all of it at once.
func OpenFiles(paths []string, o FilesOptions) (*Files, error) {
	if len(paths) == 0 {
		return nil, errors.New("no files given; name log files, or - for standard input")
	}
	l := &Files{max: cmp.Or(o.MaxLineBytes, defaultLineBytes), incomplete: o.Incomplete}
	if l.max < minLineBytes || l.max > maxLineBytes {
		return nil, fmt.Errorf("max_line_bytes: %d; use %d to %d", l.max, minLineBytes, maxLineBytes)
	}
	var faults []error
	for _, path := range paths {
		f, err := openOnce(path, cmp.Or(o.Stdin, os.Stdin))
		if err != nil {
			faults = append(faults, err)
			continue
		}
		if i := slices.IndexFunc(l.files, func(g *file) bool { return os.SameFile(f.info, g.info) }); i >= 0 {
			faults = append(faults, fmt.Errorf("%s is the same file as %s; name it once, or its lines would count twice", path, l.files[i].path))
		}
		l.files = append(l.files, f)
		if l.total >= 0 && f.info.Mode().IsRegular() {
			l.total += f.info.Size()
		} else {
			l.total = -1
		}
	}
	if len(faults) > 0 {
		_ = l.Close()
		return nil, errors.Join(faults...)
	}
	l.files = oldestFirst(l.files)
	l.name = "files"
	if len(l.files) == 1 {
		l.name = l.files[0].path
	}
	return l, nil
}

func openOnce(path string, stdin *os.File) (*file, error) {
	if path == "-" {
		return openStream(stdin, path)
	}
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() && !info.Mode().IsRegular() { // a pipe such as that of <(…)
		f, err := os.Open(path)
		if err != nil {
			return nil, unreadable(path, err)
		}
		return openStream(f, path)
	}
	f, err := openFile(path, false)
	if err != nil {
		return nil, unreadable(path, err)
	}
	f.splitDocument()
	return f, nil
}

// oldestFirst returns files with the rotations of each log together, from old
// to new, where the first of them was.
func oldestFirst(files []*file) []*file {
	byPath := make(map[string]*file)
	for _, f := range files {
		byPath[f.path] = f
	}
	var order []string // of the live files' names
	logs := make(map[string][]entry)
	for _, f := range files {
		e := entry{path: f.path, info: f.info}
		dir, name := filepath.Split(f.path)
		key := f.path
		if live, mark, ok := splitRotation(name, false); ok {
			key, e.mark = dir+live, mark
		} else if live, mark, ok := splitRotation(name, true); ok && (isDate(mark) || byPath[dir+live] != nil) {
			key, e.mark = dir+live, mark
		}
		if logs[key] == nil {
			order = append(order, key)
		}
		logs[key] = append(logs[key], e)
	}
	sorted := make([]*file, 0, len(files))
	for _, key := range order {
		sortEntries(logs[key])
		for _, e := range logs[key] {
			sorted = append(sorted, byPath[e.path])
		}
	}
	return sorted
}

// Name is the path of the only file, else "files".
func (l *Files) Name() string { return l.name }

// Open starts at the beginning. Standard input is another stream each time, so
// a position in it is passed over; finished files are read once and cannot be
// resumed.
func (l *Files) Open(_ context.Context, from event.Position) error {
	if from != (event.Position{}) && slices.ContainsFunc(l.files, func(f *file) bool { return f.pipe == nil }) {
		return fmt.Errorf("open %s: finished files are read as a whole and cannot be resumed; follow them as a log instead", l.name)
	}
	return nil
}

// Read fills b with the next lines. It returns io.EOF, with an empty batch,
// after the last one; and an error if a file turns out to be damaged or
// changes under the reader, since what was counted would not be the file.
// An unterminated last line counts as a line.
func (l *Files) Read(ctx context.Context, b *event.Batch) error {
	b.Reset()
	for len(l.files) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		if l.r == nil {
			var err error
			if l.r, err = newReader(l.files[0], l.max, chunkBytes); err != nil {
				return unreadable(l.files[0].path, err)
			}
			l.reading.Store(l.files[0])
		}
		err := l.fill(ctx, b)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errReplaced):
			return fmt.Errorf("read %s: %w while it was read; read it again once it is finished", l.r.path, err)
		case errors.Is(err, errDamaged) && errors.Is(err, io.ErrUnexpectedEOF) && l.incomplete != nil:
			l.incomplete(l.r.path)
			l.files = l.files[1:]
			err = io.EOF
		case errors.Is(err, errDamaged):
			return fmt.Errorf("%w; unpack it by hand to see what is left of it, or leave it out", err)
		case err == io.EOF:
			l.r.finish(b)
			l.files = l.files[1:]
		case err != nil:
			return unreadable(l.r.path, err)
		}
		if len(b.Lines) > 0 {
			l.describe(b)
		}
		if err == io.EOF {
			l.done.Add(l.r.raw.Load())
			l.reading.Store(nil)
			closing := l.r.close()
			l.r = nil
			if closing != nil {
				return fmt.Errorf("close: %w", closing)
			}
		}
		if len(b.Lines) > 0 {
			return nil
		}
	}
	return io.EOF
}

// fill reads a chunk. Where that may block for long, ctx ends it.
func (l *Files) fill(ctx context.Context, b *event.Batch) error {
	if p := l.r.pipe; p != nil {
		defer context.AfterFunc(ctx, p.interrupt)()
	}
	_, err := l.r.fill(b)
	return err
}

func (l *Files) describe(b *event.Batch) {
	if l.r.pipe == nil {
		b.Reference = l.r.info.ModTime()
		// Finished files cannot be resumed: that it moves is all that is asked of it.
		b.Next = event.Position{Segment: l.r.path, Offset: l.r.start}
	} else {
		b.Reference = time.Now()
		b.Next = l.r.place().position()
	}
	l.r.describe(b)
	for _, f := range l.files {
		if f != l.r.file && f.info.Mode().IsRegular() {
			b.Lag += f.info.Size()
		}
	}
}

// Progress returns how many bytes of the files, as they are on disk, have been
// read, and how many there are; total is 0 if that is not known, as it is of
// standard input. It may be called from any goroutine.
func (l *Files) Progress() (done, total int64) {
	done = l.done.Load()
	if f := l.reading.Load(); f != nil {
		done += f.raw.Load()
	}
	if l.total < 0 {
		return done, 0
	}
	return done, max(done, l.total) // a file may have grown
}

// Committed does nothing.
func (l *Files) Committed(event.Position) {}

// Close releases the files.
func (l *Files) Close() error {
	var faults []error
	for _, f := range l.files {
		faults = append(faults, f.close())
	}
	l.files = nil
	return errors.Join(faults...)
}
