package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

const (
	// idle is how long Read waits for entries before it returns without any.
	idle = time.Second
	// batchBytes is about how much Read returns at a time.
	batchBytes = 128 << 10
	// batchSpan is how far apart in time the entries of one batch may be, in
	// microseconds, for the sake of event.Batch.Reference.
	batchSpan = int64(time.Hour / time.Microsecond)
	// queryTimeout is for a look at one entry. A journal that is large or on a slow
	// disk takes some seconds.
	queryTimeout = time.Minute
	// suppressedID is that of journald's own messages about what it dropped, since
	// a unit logged too fast (SD_MESSAGE_JOURNAL_DROPPED).
	suppressedID = "a596d6fe7bfa4994828e72309e95d61e"

	stampLayout = "2006-01-02T15:04:05.000000Z07:00"
)

// Lane is a journal. The Segment of its position is a cursor, the Offset the
// number of the entry there; the zero Position is where Config.Start says.
type Lane struct {
	source *Source
	name   string

	at     event.Position // of the last entry that was handed on
	cursor []byte         // of at, while a batch is filled
	lost   int64

	child *child // nil until the first Read
	// held says that child.decoder.entry is for the next batch.
	held bool

	noted map[string]time.Time // when which trouble was last logged
}

// Name is unique to the machine.
func (l *Lane) Name() string { return l.name }

// Committed does nothing: the journal has its own limits.
func (l *Lane) Committed(event.Position) {}

// Open looks whether the entry at from is still there. If it is not, those after
// it may be gone, too.
func (l *Lane) Open(ctx context.Context, from event.Position) error {
	l.at, l.lost, l.held = from, 0, false
	switch {
	case from.Segment != "":
		if _, _, ok := cursorSequence([]byte(from.Segment)); !ok && !strings.Contains(from.Segment, "=") {
			return fmt.Errorf("position %q@%d is not one of a journal; give the source another name to start anew", from.Segment, from.Offset)
		}
		return l.notice(ctx)
	case l.source.config.Start == "end":
		// That the journal was looked at has to be known when it is read next, so
		// this entry becomes the position though it was not counted.
		last, found, err := l.query(ctx, "--lines=1")
		if err != nil || !found {
			return err
		}
		l.at = position(last)
	}
	return nil
}

// notice tells what the journal has deleted after l.at.
func (l *Lane) notice(ctx context.Context) error {
	next, found, err := l.query(ctx, "--cursor="+l.at.Segment, "--lines=1")
	if err != nil || found && string(next.fields[fieldCursor]) == l.at.Segment {
		return err
	}
	log := l.source.config.Log
	if !found {
		log.Warn("the journal ends before what was counted; it goes on with what comes", "cursor", l.at.Segment)
		return nil
	}
	id, number, known := next.sequence()
	was, last, ok := cursorSequence([]byte(l.at.Segment))
	if !known || !ok || !bytes.Equal(id, was) || number <= last {
		log.Warn("the journal was begun anew since it was read; whether entries are lost cannot be known", "cursor", l.at.Segment)
		return nil
	}
	if l.lost = number - last - 1; l.lost > 0 {
		log.Error("the journal has deleted entries, of whatever unit, before they were read; give it more room (SystemMaxUse= in journald.conf)", "entries", l.lost)
	}
	return nil
}

// position is that of an entry.
func position(e *entry) event.Position {
	p := event.Position{Segment: string(e.fields[fieldCursor])}
	if _, number, ok := e.sequence(); ok {
		p.Offset = number
	} else {
		p.Offset, _ = e.realtime()
	}
	return p
}

// Read fills b with the next entries, or returns an empty batch after a second
// without any.
func (l *Lane) Read(ctx context.Context, b *event.Batch) error {
	b.Reset()
	if err := ctx.Err(); err != nil {
		return err
	}
	if l.child == nil {
		c, err := l.follow()
		if err != nil {
			return err
		}
		l.child = c
	}
	l.cursor = append(l.cursor[:0], l.at.Segment...)
	err := l.fill(ctx, b)
	if string(l.cursor) != l.at.Segment {
		l.at.Segment = string(l.cursor)
	}
	b.Next, b.Lost, l.lost = l.at, l.lost, 0
	if b.Reference.IsZero() {
		b.Reference = time.Now()
	}
	if err == nil && len(b.Lines) == 0 {
		err = ctx.Err()
	}
	return err
}

// fill reads entries until it would have to wait for more, or for a while if there
// are none.
func (l *Lane) fill(ctx context.Context, b *event.Batch) error {
	c := l.child
	if err := c.out.SetReadDeadline(time.Now().Add(idle)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.out.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var first int64
	moved := false
	for {
		for {
			done := l.held
			if !done {
				n, ready, err := c.decoder.next(c.buffer[c.start:])
				c.start += n
				if err != nil {
					return err
				}
				done = ready
			}
			if !done {
				break
			}
			fits, err := l.add(b, &c.decoder.entry, &first)
			if err != nil {
				return err
			}
			if l.held = !fits; l.held || len(b.Buffer) >= batchBytes {
				return nil
			}
			moved = true
		}
		if moved {
			return nil
		}
		switch err := c.read(); {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			if said := c.said.text(); len(said) > 0 { // such as that it may not read all
				l.note("journalctl says", "text", strings.Join(strings.Fields(string(said)), " "))
			}
			return nil
		case errors.Is(err, io.EOF):
			return c.ended()
		default:
			return fmt.Errorf("read from journalctl: %w", err)
		}
	}
}

// add appends an entry to b, unless it has to be in a batch of its own. first is
// the time of the first in b.
func (l *Lane) add(b *event.Batch, e *entry, first *int64) (fits bool, err error) {
	micros, ok := e.realtime()
	if !ok || !e.has[fieldCursor] {
		return false, errExport
	}
	id, number, ok := e.sequence()
	if !ok {
		id, number = nil, micros
	}
	if len(b.Lines) > 0 && (b.Segment != string(id) || micros > *first+batchSpan || micros < *first-batchSpan) {
		return false, nil
	}
	if bytes.Equal(e.fields[fieldCursor], l.cursor) {
		return true, nil // the one that was the last
	}
	l.cursor, l.at.Offset = append(l.cursor[:0], e.fields[fieldCursor]...), number
	if string(e.fields[fieldMessageID]) == suppressedID && string(e.fields[fieldTransport]) == "driver" {
		l.suppressed(e)
		return true, nil
	}
	start := len(b.Buffer)
	b.Buffer = l.appendLine(b.Buffer, e, micros)
	if len(b.Buffer) == start {
		return true, nil // an entry without a message
	}
	if len(b.Lines) == 0 {
		b.Segment, *first = string(id), micros
	}
	if b.Lines = append(b.Lines, event.Line{Text: b.Buffer[start:], Offset: number}); e.truncated {
		b.Truncated++
	}
	if at := time.UnixMicro(micros); at.After(b.Reference) {
		b.Reference = at
	}
	return true, nil
}

// suppressed counts what journald says that it dropped, if it is of our units.
func (l *Lane) suppressed(e *entry) {
	unit := string(e.fields[fieldObjectUnit])
	if unit == "" {
		_, unit, _ = strings.Cut(string(e.fields[fieldMessage]), " messages from ")
	}
	n, err := strconv.ParseInt(string(e.fields[fieldDropped]), 10, 64)
	if err != nil || n <= 0 {
		return
	}
	for _, ours := range l.source.config.Units {
		if ours == unit {
			l.lost += n
			l.note("journald drops entries, since the unit logs faster than it allows; set LogRateLimitIntervalSec=0 for the unit", "unit", unit, "entries", n)
		}
	}
}

// note logs trouble, but the same not each time.
func (l *Lane) note(message string, args ...any) {
	if now := time.Now(); now.Sub(l.noted[message]) >= nag {
		l.noted[message] = now
		l.source.config.Log.Warn(message, args...) //nolint:sloglint // a few constant messages
	}
}

// appendLine appends an entry as a line of a log file,
//
//	TIMESTAMP host program[pid]: message
//
// or the message alone. Without a message it appends nothing.
func (l *Lane) appendLine(dst []byte, e *entry, micros int64) []byte {
	message := bytes.TrimRight(e.fields[fieldMessage], "\r\n")
	if len(message) == 0 {
		return dst
	}
	first := func(or string, fields ...int) []byte {
		for _, i := range fields {
			if len(e.fields[i]) > 0 {
				return e.fields[i]
			}
		}
		return []byte(or)
	}
	if !l.source.config.TextOnly {
		dst = time.UnixMicro(micros).UTC().AppendFormat(dst, stampLayout)
		dst = append(dst, ' ')
		dst = append(dst, first("-", fieldHost)...)
		dst = append(dst, ' ')
		dst = append(dst, first("unknown", fieldIdentifier, fieldCommand)...)
		if pid := first("", fieldPID, fieldSyslogPID); len(pid) > 0 {
			dst = append(dst, '[')
			dst = append(dst, pid...)
			dst = append(dst, ']')
		}
		dst = append(dst, ": "...)
	}
	start := len(dst)
	dst = append(dst, message...)
	for i, c := range dst[start:] {
		if c == '\n' {
			dst[start+i] = ' '
		}
	}
	return dst
}

// Close ends the child.
func (l *Lane) Close() error {
	if l.child == nil {
		return nil
	}
	c := l.child
	l.child, l.held = nil, false
	return c.close()
}

// command returns journalctl with what all calls have in common.
func (l *Lane) command(ctx context.Context, args ...string) *exec.Cmd {
	c := &l.source.config
	all := []string{"--no-pager", "--output=export", "--output-fields=" + strings.Join(fieldNames[fieldMessage:], ",")}
	if c.Directory != "" {
		all = append(all, "--directory="+c.Directory)
	}
	cmd := exec.CommandContext(ctx, c.Program, append(all, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = time.Second
	return cmd
}

// query returns the first entry that journalctl finds.
func (l *Lane) query(ctx context.Context, args ...string) (_ *entry, found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	out, err := l.command(ctx, append([]string{"--quiet"}, args...)...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return nil, false, explain(err, exit.Stderr)
		}
		return nil, false, explain(err, nil)
	}
	d := &decoder{max: l.source.config.MaxLine}
	used, found, err := d.next(out)
	if err == nil && !found && used < len(out) {
		err = errExport
	}
	return &d.entry, found, err
}

// explain adds what journalctl said, and a remedy, to how it ended.
func explain(err error, said []byte) error {
	remedy := ""
	switch text := string(said); {
	case errors.Is(err, exec.ErrNotFound):
		remedy = "; install systemd, or read a log file by kind tail"
	case strings.Contains(text, "permission"):
		remedy = "; add the daemon's user to the group systemd-journal"
	}
	if text := strings.Join(strings.Fields(string(said)), " "); text != "" {
		return fmt.Errorf("journalctl ended: %w: %s%s", err, text, remedy)
	}
	return fmt.Errorf("journalctl ended: %w%s", err, remedy)
}

// child is a journalctl that follows the journal.
type child struct {
	cmd     *exec.Cmd
	cancel  context.CancelFunc // kills it
	out     *os.File
	said    *lastWords
	decoder decoder
	buffer  []byte // buffer[start:] was read and not used
	start   int
}

// follow starts a child that tells all entries from l.at on and those to come.
//
// It asks for the entry at the position, too, which is then passed over: told to
// go on after a cursor that is gone, journalctl 252 leaves out the next entry.
func (l *Lane) follow() (*child, error) {
	args := []string{"--follow", "--no-tail"}
	if l.at.Segment != "" {
		args = append(args, "--cursor="+l.at.Segment)
	}
	ctx, cancel := context.WithCancel(context.Background()) // it ends with the lane
	c := &child{cmd: l.command(ctx, append(args, l.source.matches...)...), cancel: cancel, said: &lastWords{}}
	c.decoder.max = l.source.config.MaxLine
	out, in, err := os.Pipe()
	if err != nil {
		cancel()
		return nil, fmt.Errorf("start journalctl: %w", err)
	}
	c.out, c.cmd.Stdout, c.cmd.Stderr = out, in, c.said
	err = c.cmd.Start()
	_ = in.Close() // the child has its own
	if err != nil {
		cancel()
		return nil, errors.Join(explain(err, nil), out.Close())
	}
	return c, nil
}

// read reads more into the buffer.
func (c *child) read() error {
	if c.start > 0 {
		c.buffer = c.buffer[:copy(c.buffer, c.buffer[c.start:])]
		c.start = 0
	}
	if len(c.buffer) == cap(c.buffer) {
		larger := make([]byte, len(c.buffer), max(2*cap(c.buffer), 64<<10))
		copy(larger, c.buffer)
		c.buffer = larger
	}
	n, err := c.out.Read(c.buffer[len(c.buffer):cap(c.buffer)])
	c.buffer = c.buffer[:len(c.buffer)+n]
	if n > 0 {
		return nil
	}
	return err
}

// ended returns why the child's output is at its end.
func (c *child) ended() error {
	err := c.cmd.Wait()
	if err == nil {
		err = errors.New("it should go on for ever")
	}
	return explain(err, c.said.text())
}

func (c *child) close() error {
	c.cancel()
	_ = c.cmd.Wait() // it was killed, or ended before
	return c.out.Close()
}

// lastWords keeps the beginning of what a child writes to standard error.
type lastWords struct {
	mu   sync.Mutex
	said []byte // guarded by mu
}

// Write implements io.Writer.
func (w *lastWords) Write(b []byte) (int, error) {
	const most = 1 << 10
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, b[:min(len(b), most-len(w.said))]...)
	return len(b), nil
}

func (w *lastWords) text() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Clone(w.said)
}
