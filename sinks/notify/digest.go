package notify

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Schedule says how often a digest is told.
type Schedule string

const (
	// Never tells none.
	Never Schedule = ""
	// Daily tells of the day before, in the morning.
	Daily Schedule = "daily"
	// Weekly tells of the week before, on Monday morning.
	Weekly Schedule = "weekly"
)

// digestHour is the hour of the day, local time, at which digests are told.
const digestHour = 8

// due returns the last moment up to now at which a digest was due, and the time
// that it is of: whole days before that day, or before that Monday.
func (s Schedule) due(now time.Time) (due, from, until time.Time) {
	y, m, d := now.Date()
	days := 1
	if s == Weekly {
		d -= (int(now.Weekday()) + 6) % 7
		days = 7
	}
	at := func(d, hour int) time.Time { return time.Date(y, m, d, hour, 0, 0, 0, now.Location()) }
	if at(d, digestHour).After(now) {
		d -= days
	}
	return at(d, digestHour), at(d-days, 0), at(d, 0)
}

// Letter is a message that is not about single alerts.
type Letter struct {
	// ID is the same for the same letter.
	ID string
	// Title is one line. Lines may have what remote servers said and are made
	// harmless by who shows them.
	Title string
	Lines []string
}

// Writer is a Teller that takes letters as well.
type Writer interface {
	// Write returns nil once the receiver has the letter; else see Teller.
	Write(ctx context.Context, l *Letter) error
}

// maxLine bounds a line of a letter.
const maxLine = 400

// message returns a letter's title and text for a receiver.
func (l *Letter) message(titleFormat, textFormat Format) (title, text string) {
	var b strings.Builder
	for _, line := range l.Lines {
		b.WriteString(textFormat.escape(clean(line, maxLine)))
		b.WriteByte('\n')
	}
	return titleFormat.escape(clean(l.Title, maxTitle)), lines(strings.TrimSpace(b.String()), maxMessage-utf8.RuneCountInString(l.Title))
}

// digest tells the digest if one is due. The ledger knows which was told last, so
// a restart neither forgets nor repeats one. Of several that are late only the
// last is told; a new notifier begins with the next one.
func (c *courier) digest(ctx context.Context, now time.Time) error {
	w, ok := c.config.Teller.(Writer)
	if !ok || c.config.Digest == Never || c.makeDigest == nil {
		return nil
	}
	due, from, until := c.config.Digest.due(now)
	if due.Unix() <= c.digested {
		return nil
	}
	name := c.config.Name + "/digest"
	told, err := c.ledger.Notified(ctx, name)
	if err != nil {
		return c.ledgerFailed(err)
	}
	if told != 0 && told < due.Unix() {
		l, err := c.makeDigest(ctx, from, until)
		if err != nil {
			return c.ledgerFailed(fmt.Errorf("make the %s digest: %w", c.config.Digest, err))
		}
		l.ID = fmt.Sprintf("bouncemeter-digest-%s-%s", c.config.Digest, until.Format(time.DateOnly))
		if err := c.deliver(ctx, func(ctx context.Context) error { return w.Write(ctx, l) }); err != nil {
			return err
		}
	}
	if err := c.ledger.SetNotified(ctx, name, due.Unix()); err != nil {
		return c.ledgerFailed(err)
	}
	c.digested = due.Unix()
	return nil
}
