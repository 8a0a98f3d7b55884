package notify

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/bouncemeter/bouncemeter/ledger/alertjson"
)

// Silence keeps people from being told of some alerts for some time, once or
// every week.
type Silence struct {
	// Comment says why, and who asked for it.
	Comment string `yaml:"comment"`
	// Match says which alerts; at least one pattern is needed.
	Match Match `yaml:"match"`
	// From and Until bound the silence. A zero From is long ago. Until may be
	// left out only if Weekly is given.
	From  time.Time `yaml:"from"`
	Until time.Time `yaml:"until"`
	// Weekly limits the silence to some hours of some days.
	Weekly []Hours `yaml:"weekly"`
	// Timezone of Weekly, an IANA name; empty is that of this machine.
	Timezone string `yaml:"timezone"`

	location *time.Location
}

// Hours are hours of some days of the week.
type Hours struct {
	// Days are mon, tue, wed, thu, fri, sat, sun; none means all.
	Days []string `yaml:"days"`
	// From and To are times of day such as 22:00. To may be up to 24:00; if it is
	// not after From the hours end on the day after.
	From string `yaml:"from"`
	To   string `yaml:"to"`

	from, to int // minutes of the day
}

var days = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// active reports whether the silence holds at t.
func (s *Silence) active(t time.Time) bool {
	if t.Before(s.From) || !s.Until.IsZero() && !t.Before(s.Until) {
		return false
	}
	t = t.In(s.location)
	return len(s.Weekly) == 0 || slices.ContainsFunc(s.Weekly, func(h Hours) bool { return h.contain(t) })
}

// contain reports whether the clock at t shows one of these hours.
func (h *Hours) contain(t time.Time) bool {
	on := func(d time.Weekday) bool { return len(h.Days) == 0 || slices.Contains(h.Days, days[d]) }
	minute := t.Hour()*60 + t.Minute()
	if h.from < h.to {
		return on(t.Weekday()) && minute >= h.from && minute < h.to
	}
	return on(t.Weekday()) && minute >= h.from || on((t.Weekday()+6)%7) && minute < h.to
}

// maxSilences bounds the file of silences, in bytes.
const maxSilences = 1 << 20

// ParseSilences reads a file of silences: a YAML mapping with a list "silences".
// Its error joins all faults.
func ParseSilences(data []byte) ([]Silence, error) {
	var file struct {
		Silences []Silence `yaml:"silences"`
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, yamlFaults(err)
	}
	var faults []error
	for i := range file.Silences {
		for _, fault := range file.Silences[i].check() {
			faults = append(faults, fmt.Errorf("silences[%d].%s", i, fault))
		}
	}
	return file.Silences, errors.Join(faults...)
}

// yamlFaults returns the faults that the YAML package found, without the names of
// Go types.
func yamlFaults(err error) error {
	all := []string{strings.TrimPrefix(err.Error(), "yaml: ")}
	if e, ok := errors.AsType[*yaml.TypeError](err); ok {
		all = e.Errors
	}
	var faults []error
	for _, text := range all {
		text, _, _ = strings.Cut(text, " into ")
		text, _, _ = strings.Cut(text, " in type ")
		faults = append(faults, fmt.Errorf("%s; correct the YAML", text))
	}
	return errors.Join(faults...)
}

// check completes s and returns what is wrong with it.
func (s *Silence) check() (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if s.Match.Empty() {
		fault(`match: nothing is given, so all alerts would be silenced; if that is meant write rules: ["*"]`)
	}
	for _, word := range s.Match.Severities {
		if !slices.Contains(alertjson.Severities, alertjson.Severity(strings.TrimPrefix(word, "!"))) && !strings.Contains(word, "*") {
			fault("match.severities: %q is unknown; have ticket, warning, critical", word)
		}
	}
	if strings.TrimSpace(s.Comment) == "" {
		fault("comment: there is none; say why, for those who wonder later")
	}
	switch {
	case s.Until.IsZero() && len(s.Weekly) == 0:
		fault("until: there is no end, and alerts would be forgotten; write a time such as 2026-01-31T18:00:00Z")
	case !s.Until.IsZero() && !s.From.Before(s.Until):
		fault("until: it is not after from")
	}
	var err error
	zone := s.Timezone
	if zone == "" {
		zone = "Local"
	}
	if s.location, err = time.LoadLocation(zone); err != nil {
		fault("timezone: %q is not a time zone; use an IANA name such as Europe/Berlin", s.Timezone)
	}
	for i := range s.Weekly {
		h := &s.Weekly[i]
		for j, day := range h.Days {
			h.Days[j] = strings.ToLower(day)
			if !slices.Contains(days, h.Days[j]) {
				fault("weekly[%d].days: %q is no day; have mon, tue, wed, thu, fri, sat, sun", i, day)
			}
		}
		var okFrom, okTo bool
		h.from, okFrom = minuteOfDay(h.From)
		h.to, okTo = minuteOfDay(h.To)
		if !okFrom || !okTo || h.from == 24*60 {
			fault(`weekly[%d]: from %q to %q are no times of day; write them in quotes, such as from: "22:00"`, i, h.From, h.To)
		}
	}
	return faults
}

// minuteOfDay reads 00:00 to 24:00.
func minuteOfDay(s string) (int, bool) {
	if s == "24:00" {
		return 24 * 60, true
	}
	t, err := time.Parse("15:04", s)
	return t.Hour()*60 + t.Minute(), err == nil
}

// Silences are those of a file, read again when it changes. They may be used by
// several goroutines.
type Silences struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex
	list    []Silence
	looked  time.Time // when the file was last looked at
	changed time.Time // what it said of itself then
	size    int64
	failing bool
}

// lookAgain is how often the file is looked at.
const lookAgain = 5 * time.Second

// OpenSilences reads the file at path. If there is none yet there are no
// silences until it comes.
func OpenSilences(path string, log *slog.Logger) (*Silences, error) {
	s := &Silences{path: path, log: log}
	if err := s.read(); err != nil {
		return nil, err
	}
	s.looked = time.Now()
	return s, nil
}

// read takes the file if it is another than before. After an error the silences
// stay as they are.
func (s *Silences) read() error {
	info, err := os.Stat(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		s.list, s.changed, s.size = nil, time.Time{}, 0
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the silences: %w; let the daemon's user read the file", err)
	}
	if info.ModTime().Equal(s.changed) && info.Size() == s.size {
		return nil
	}
	if info.Size() > maxSilences {
		return fmt.Errorf("read the silences: %s has %d bytes, more than %d; remove those that are over", s.path, info.Size(), maxSilences)
	}
	data, err := os.ReadFile(s.path)
	if err != nil {
		return fmt.Errorf("read the silences: %w; let the daemon's user read the file", err)
	}
	list, err := ParseSilences(data)
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all := joined.Unwrap()
		for i := range all {
			all[i] = fmt.Errorf("%s: %w", s.path, all[i])
		}
		return errors.Join(all...)
	}
	s.list, s.changed, s.size = list, info.ModTime(), info.Size()
	return nil
}

// covers returns whether a silence covers a at t. It first reads the file again if it
// has changed.
func (s *Silences) covers(a *alertjson.Alert, t time.Time) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.looked) >= lookAgain {
		s.looked = now
		err := s.read()
		if err != nil && !s.failing {
			s.log.Error("the silences stay as they were", "err", err)
		}
		s.failing = err != nil
	}
	return slices.ContainsFunc(s.list, func(x Silence) bool { return x.active(t) && x.Match.Matches(a) })
}
