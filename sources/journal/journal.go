// Package journal reads the journal of systemd: the entries of some units or
// programs, each as the line that syslog would have written. It has them from
// journalctl, which follows the journal as a child process: that knows every
// version of the files, needs no C library in this process, and has a format for
// programs that systemd promises to keep (Journal Export Format).
//
// The guarantees:
//
//   - Every entry that is in the journal is read once, whatever is killed when: the
//     ledger holds the cursor of the last one. A child that ends is started again
//     after the last entry that was counted.
//   - What the journal has deleted before it was read is noticed at the next start
//     and told in Batch.Lost, in entries of the journal; so is what journald
//     itself dropped of a unit that logged too fast (RateLimitBurst= in
//     journald.conf(5)).
package journal

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"
)

const (
	// DefaultMaxLine is more than journald takes of a line by default.
	DefaultMaxLine = 64 << 10

	nag = time.Minute // how often the same trouble is logged
)

// Config says what to read. The zero value of a field means its default, where it
// has one.
type Config struct {
	// Units are the systemd units whose entries are read, such as
	// postfix@-.service; .service may be left out. journald notes the unit itself,
	// so nobody else can write in its name.
	Units []string
	// Identifiers are the names of programs whose entries are read, such as
	// postfix/smtp, besides those of Units. Any program may take any name.
	Identifiers []string
	// Start says where to begin with a journal that was never read: at its
	// "beginning" (the default) or "end".
	Start string
	// Directory is where the files of the journal are, if it is not that of this
	// machine.
	Directory string
	// MaxLine is how many bytes of an entry are kept. Default 64 KiB.
	MaxLine int
	// TextOnly keeps what was logged without the time and the name in front, for
	// programs that log JSON.
	TextOnly bool
	// Program is journalctl's name or path. Default journalctl.
	Program string
	// Log takes messages about trouble. Default slog.Default.
	Log *slog.Logger
}

// Source reads one journal.
type Source struct {
	config  Config
	matches []string // arguments of journalctl
}

// New checks c and returns a source for it. It does not read yet.
func New(c Config) (*Source, error) {
	c.MaxLine = cmp.Or(c.MaxLine, DefaultMaxLine)
	c.Program = cmp.Or(c.Program, "journalctl")
	c.Start = cmp.Or(c.Start, "beginning")
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Start != "beginning" && c.Start != "end" {
		return nil, fmt.Errorf("start: %q is neither beginning nor end", c.Start)
	}
	if len(c.Units)+len(c.Identifiers) == 0 {
		return nil, errors.New("neither units nor identifiers say what to read; write units: [postfix@-.service]")
	}
	s := &Source{config: c}
	s.config.Units = nil
	alternative := func(matches ...string) {
		if len(s.matches) > 0 {
			s.matches = append(s.matches, "+")
		}
		s.matches = append(s.matches, matches...)
	}
	for _, unit := range c.Units {
		if err := CheckUnit(unit); err != nil {
			return nil, err
		}
		if !strings.Contains(unit, ".") {
			unit += ".service"
		}
		s.config.Units = append(s.config.Units, unit)
		alternative("_SYSTEMD_UNIT=" + unit)
	}
	if len(c.Units) > 0 {
		alternative("_TRANSPORT=driver", "MESSAGE_ID="+suppressedID)
	}
	for _, identifier := range c.Identifiers {
		if identifier == "" || strings.ContainsAny(identifier, "\n\x00") {
			return nil, fmt.Errorf("%q is not the name of a program", identifier)
		}
		alternative("SYSLOG_IDENTIFIER=" + identifier)
	}
	return s, nil
}

// CheckUnit says what is wrong with the name of a unit (systemd.unit(5)).
func CheckUnit(unit string) error {
	if unit == "" || strings.IndexFunc(unit, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(`:-_.\@`, r)
	}) >= 0 {
		return fmt.Errorf("%q is not the name of a unit; write all of it, such as postfix@-.service, without patterns", unit)
	}
	return nil
}

// Run calls work for the journal's lane and returns when it does.
func (s *Source) Run(ctx context.Context, work func(context.Context, *Lane) error) error {
	return work(ctx, &Lane{source: s, name: laneName(), noted: make(map[string]time.Time)})
}

// laneName is made of the machine's id, so machines that share a ledger have
// lanes of their own. It does not tell the id (machine-id(5) asks for that).
func laneName() string {
	id, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		return "journal"
	}
	mac := hmac.New(sha256.New, []byte(strings.TrimSpace(string(id))))
	mac.Write([]byte("bouncemeter"))
	return "journal-" + hex.EncodeToString(mac.Sum(nil)[:6])
}
