package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/ledger"
)

// querier is what a view needs of a ledger.
type querier interface {
	Query(ctx context.Context, q ledger.Query) ([]ledger.Row, error)
	Lanes(ctx context.Context) ([]ledger.Lane, error)
}

// view compares the failures of the latest minutes with what is usual: the week
// before, or as much of it as there is.
type view struct {
	span time.Duration // the latest minutes
	rows int           // at the most
	// width is that of the terminal; 0 is unknown.
	width int
	color bool
}

// usual is how far back view looks for what is usual.
const usual = 7 * 24 * time.Hour

// reason is why mail failed at one provider.
type reason struct{ category, provider string }

// course is how often a reason was, now and before.
type course struct {
	reason
	now, before   int64
	share, normal float64 // of the attempts at the provider
	sender        string  // the sender domain with most of it now
	senderNow     int64
	jumped        bool
}

// text renders the view as of now, or as of the last event if that is older:
// logs may have ended.
func (v view) text(ctx context.Context, l querier, now time.Time) (string, error) {
	end, err := v.end(ctx, l, now)
	if err != nil {
		return "", err
	}
	since := end.Add(-v.span).Truncate(time.Minute).Unix()
	by := []ledger.Dimension{ledger.ByOutcome, ledger.ByCategory, ledger.ByProvider, ledger.BySenderDomain}
	latest, err := ledger.QueryAll(ctx, l.Query, ledger.Query{Since: since, Until: end.Unix(), By: by})
	if err != nil {
		return "", err
	}
	before, err := ledger.QueryAll(ctx, l.Query, ledger.Query{Since: end.Add(-usual).Unix(), Until: since, By: by[:3]})
	if err != nil {
		return "", err
	}
	all, attempts, failures := courses(latest, before)
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %d attempts in the last %s, %.1f%% failed\n", end.Format("2006-01-02 15:04:05"), attempts, span(v.span), 100*float64(failures)/float64(max(attempts, 1)))
	if len(all) == 0 {
		b.WriteString("  no failures\n")
		return b.String(), nil
	}
	b.WriteString(v.line(fmt.Sprintf("  %-20s %-16s %7s %7s %6s  %s", "reason", "provider", "now", "usual", "", "sender domain"), false))
	for _, x := range all[:min(len(all), max(v.rows, 1))] {
		rise := ""
		switch {
		case x.jumped && x.before == 0:
			rise = "▲ new"
		case x.jumped:
			rise = fmt.Sprintf("▲ %.0f×", x.share/x.normal)
		}
		// What may be cut off stands last.
		line := fmt.Sprintf("  %-20s %-16s %6.2f%% %6.2f%% %6s  %s: %d of %d", x.category, x.provider, 100*x.share, 100*x.normal, rise, x.sender, x.senderNow, x.now)
		b.WriteString(v.line(line, x.jumped))
	}
	if more := len(all) - v.rows; more > 0 {
		fmt.Fprintf(&b, "  … and %d more\n", more)
	}
	return b.String(), nil
}

// end is until when the view looks.
func (v view) end(ctx context.Context, l querier, now time.Time) (time.Time, error) {
	lanes, err := l.Lanes(ctx)
	if err != nil {
		return now, err
	}
	var last int64
	for _, lane := range lanes {
		last = max(last, lane.Last)
	}
	if ended := time.Unix(last+1, 0); last > 0 && now.Sub(ended) > v.span {
		return ended, nil
	}
	return now, nil
}

// line ends a line of the view, and cuts it off where the terminal would break
// it.
func (v view) line(s string, marked bool) string {
	s = printableLine(s)
	if v.width > 1 && utf8.RuneCountInString(s) > v.width-1 {
		s = string([]rune(s)[:max(v.width-2, 0)]) + "…"
	}
	if marked && v.color {
		s = "\x1b[1;31m" + s + "\x1b[0m"
	}
	return s + "\n"
}

// printableLine drops what a terminal would act on: names come from others.
func printableLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' {
			return -1
		}
		return r
	}, s)
}

// courses returns what failed in the latest rows (by outcome, category, provider
// and sender domain) beside the rows before (without the domain): first what is
// more than chance explains, then by how much more it is.
func courses(latest, before []ledger.Row) (all []*course, attempts, failures int64) {
	byReason := make(map[reason]*course)
	of := func(r ledger.Row) *course {
		key := reason{r.Keys[1], r.Keys[2]}
		if byReason[key] == nil {
			byReason[key] = &course{reason: key}
		}
		return byReason[key]
	}
	tried, triedBefore := make(map[string]int64), make(map[string]int64) // by provider
	senders := make(map[reason]map[string]int64)
	for _, r := range latest {
		o, _ := event.OutcomeByName(r.Keys[0])
		switch o {
		case event.Deferred, event.Bounced:
			failures += r.Attempts
			x := of(r)
			x.now += r.Attempts
			if senders[x.reason] == nil {
				senders[x.reason] = make(map[string]int64)
			}
			n := senders[x.reason][r.Keys[3]] + r.Attempts
			senders[x.reason][r.Keys[3]] = n
			if n > x.senderNow || n == x.senderNow && r.Keys[3] < x.sender {
				x.sender, x.senderNow = r.Keys[3], n
			}
		case event.Delivered:
		default:
			continue // no attempt
		}
		attempts += r.Attempts
		tried[r.Keys[2]] += r.Attempts
	}
	for _, r := range before {
		switch o, _ := event.OutcomeByName(r.Keys[0]); o {
		case event.Deferred, event.Bounced:
			of(r).before += r.Attempts
			triedBefore[r.Keys[2]] += r.Attempts
		case event.Delivered:
			triedBefore[r.Keys[2]] += r.Attempts
		}
	}
	for _, x := range byReason {
		if x.now == 0 {
			continue
		}
		x.share = float64(x.now) / float64(tried[x.provider])
		x.normal = float64(x.before) / float64(max(triedBefore[x.provider], 1))
		// Chance alone makes three standard deviations once in hundreds of times.
		expected := x.normal * float64(tried[x.provider])
		x.jumped = triedBefore[x.provider] >= 50 && x.now >= 5 && x.share > 2*x.normal && float64(x.now)-expected > 3*math.Sqrt(expected+1)
		if x.sender == "" {
			x.sender = "<>" // the null sender
		}
		all = append(all, x)
	}
	slices.SortFunc(all, func(a, b *course) int {
		if a.jumped != b.jumped {
			if a.jumped {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(b.now, a.now), cmp.Compare(a.category, b.category), cmp.Compare(a.provider, b.provider))
	})
	return all, attempts, failures
}

// span writes a duration as 10m or 2h.
func span(d time.Duration) string {
	s := d.String()
	s = strings.TrimSuffix(s, "0s")
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	if s == "" || s == d.String() {
		return d.String()
	}
	return s
}
