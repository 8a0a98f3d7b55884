package tail

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"
)

// Where to begin in a stream that was never read before.
const (
	Beginning = "beginning"
	End       = "end"
)

// Limits of Config.MaxLineBytes.
const (
	minLineBytes     = 256
	maxLineBytes     = 16 << 20
	defaultLineBytes = 64 << 10
)

// Config says which log files to follow and how. The zero value of every field
// but Paths means its default.
type Config struct {
	// Paths are the names of live log files, or patterns for them as understood
	// by path/filepath.Match. Each file is a lane of its own. A file that is
	// named here is waited for if it does not exist; a file that begins to
	// match a pattern later is followed from then on.
	//
	// Rotated files (mail.log.1, mail.log.2.gz, mail.log-20261123.xz,
	// mail.log.old, mail-20261123.log beside mail.log) need not be named. They
	// are found beside the live file, belong to its lane and are never lanes of
	// their own, also where a pattern matches them. Of what a pattern matches,
	// hidden files, compressed files and editors' leftovers (ending in ~, .swp
	// or .tmp) are passed over.
	Paths []string
	// Start is where to begin in a stream that was never read before: Beginning
	// (the default) is that of the oldest rotated file that is still there, End
	// is the end of the live file. A file that appears while the daemon runs is
	// read from its beginning either way.
	Start string
	// MaxLineBytes is how much of a line is kept. The rest of a longer one is
	// skipped and the line is counted as truncated. Default 64 KiB, at least
	// 256 bytes, at most 16 MiB.
	MaxLineBytes int
	// Poll is how often a file is looked at when there is no file event.
	// Default 250ms, at least 10ms, at most a minute.
	Poll time.Duration
	// Grace is how long a file that was rotated away must not have grown before
	// the next one is read: other processes may still write to the old one.
	// Default 1s.
	Grace time.Duration
	// PollOnly does without file events (inotify, kqueue). Nothing is missed;
	// lines are seen up to Poll later.
	PollOnly bool
	// Log takes the few messages about files: waiting, unreadable, truncated,
	// damaged. Default slog.Default.
	Log *slog.Logger

	chunk int // how much is read at a time; tests use less than chunkBytes
}

// Validate reports all faults at once, each with the field and the remedy.
func (c *Config) Validate() error {
	var faults []error
	if len(c.Paths) == 0 {
		faults = append(faults, errors.New("paths: none given; name at least one log file, such as /var/log/mail.log"))
	}
	for i, p := range c.Paths {
		if p == "" {
			faults = append(faults, fmt.Errorf("paths[%d]: empty; name a log file, such as /var/log/mail.log", i))
		} else if _, err := filepath.Match(p, ""); err != nil {
			faults = append(faults, fmt.Errorf("paths[%d]: %q: %w; close the bracket, or write \\[ for a literal one", i, p, err))
		}
	}
	if c.Start != "" && c.Start != Beginning && c.Start != End {
		faults = append(faults, fmt.Errorf("start: %q; use %s or %s", c.Start, Beginning, End))
	}
	if n := c.MaxLineBytes; n != 0 && (n < minLineBytes || n > maxLineBytes) {
		faults = append(faults, fmt.Errorf("max_line_bytes: %d; use %d to %d", n, minLineBytes, maxLineBytes))
	}
	if p := c.Poll; p != 0 && (p < 10*time.Millisecond || p > time.Minute) {
		faults = append(faults, fmt.Errorf("poll: %s; use 10ms to 1m", p))
	}
	if c.Grace < 0 {
		faults = append(faults, fmt.Errorf("grace: %s; use 0 or more", c.Grace))
	}
	return errors.Join(faults...)
}

// withDefaults returns c with every field set.
func (c Config) withDefaults() Config {
	if c.Start == "" {
		c.Start = Beginning
	}
	if c.MaxLineBytes == 0 {
		c.MaxLineBytes = defaultLineBytes
	}
	if c.Poll == 0 {
		c.Poll = 250 * time.Millisecond
	}
	if c.Grace == 0 {
		c.Grace = time.Second
	}
	if c.chunk == 0 {
		c.chunk = chunkBytes
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c
}
