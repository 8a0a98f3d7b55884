package web

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/bouncemeter/bouncemeter/internal/chart"
	"github.com/bouncemeter/bouncemeter/internal/report"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/cache"
)

// filters are what a page can be narrowed down to, by their names in URLs and in
// alerts. By reason there are pages instead.
var filters = []struct {
	name  string
	by    ledger.Dimension
	title string
}{
	{"category", ledger.ByCategory, "reason"},
	{"provider", ledger.ByProvider, "provider"},
	{"sender_domain", ledger.BySenderDomain, "sender domain"},
	{"host", ledger.ByHost, "host"},
	{"stream", ledger.ByStream, "stream"},
}

// spans are the time ranges that pages offer.
var spans = []struct {
	name   string
	length time.Duration
}{
	{"1h", time.Hour}, {"6h", 6 * time.Hour}, {"24h", 24 * time.Hour}, {"7d", 7 * 24 * time.Hour}, {"30d", 30 * 24 * time.Hour},
}

const (
	usualSpan = "6h" // what pages show unless asked for another
	day       = 24 * 60 * 60
	maxSpan   = 366 * day
	maxName   = 255 // bytes of a name in a URL
)

// view is what a URL asks for: a time range and filters. Links keep it.
type view struct {
	path string // as it is in a URL
	// last is the length of time back from now, or "" for from and to.
	last  string
	now   int64
	since int64 // Unix seconds; the range is since <= t < until
	until int64
	step  int64 // of charts
	where map[ledger.Dimension]string
}

// Path is the path of the page.
func (v *view) Path() string { return v.path }

// badRequest is an error that the client can mend.
type badRequest struct{ error }

// parseView reads the range and the filters of a request. Pages pass over
// parameters that they do not know.
func (s *Server) parseView(r *http.Request) (*view, error) {
	now := s.o.Now()
	v := &view{path: r.URL.EscapedPath(), now: now.Unix(), where: make(map[ledger.Dimension]string)}
	query := r.URL.Query()
	switch {
	case query.Get("from") != "":
		from, err := parseTime("from", query.Get("from"))
		if err != nil {
			return nil, err
		}
		to := now.Unix()
		if t := query.Get("to"); t != "" {
			if to, err = parseTime("to", t); err != nil {
				return nil, err
			}
		}
		if to = min(to, now.Unix()); to <= from || to-from > maxSpan {
			return nil, badRequest{fmt.Errorf("from %s to %s is no time range in the past of up to a year", query.Get("from"), query.Get("to"))}
		}
		v.since, v.until = from, to
	default:
		v.last = cmp.Or(query.Get("last"), usualSpan)
		length, err := parseLength(v.last)
		if err != nil {
			return nil, err
		}
		v.until = now.Unix()
		v.since = v.until - int64(length/time.Second)
	}
	for _, f := range filters {
		if !query.Has(f.name) || f.by == ledger.ByCategory {
			continue // failures of one reason without the attempts make no ratio: they have a page of their own
		}
		name, err := nameFrom(query.Get(f.name))
		if err != nil {
			return nil, err
		}
		v.where[f.by] = name
	}
	v.align(s.o.Minutes, s.o.Hours)
	return v, nil
}

// align chooses the step and rounds the range to what can be answered from
// memory: multiples of 5 minutes, of hours or of days for older ones, whose
// minutes and hours the ledger no longer keeps.
func (v *view) align(minutes, hours time.Duration) {
	grain := int64(cache.Finest)
	switch length := v.until - v.since; {
	case length <= 90*60:
		v.step = 60
	case length <= 12*3600:
		v.step = 300
	case length <= 36*3600:
		v.step = 600
	case length <= 8*day:
		v.step, grain = 3600, 3600
	default:
		v.step, grain = day, day
	}
	switch age := time.Duration(v.now-v.since) * time.Second; {
	case age > hours-48*time.Hour:
		v.step, grain = day, day
	case age > minutes-2*time.Hour:
		v.step, grain = max(v.step, 3600), max(grain, 3600)
	}
	up := func(t, to int64) int64 { return (t + to - 1) / to * to }
	// Slots start at multiples of the step, for the ledger too.
	v.since = v.since / max(grain, v.step) * max(grain, v.step)
	v.until = min(up(v.until, grain), up(v.now, cache.Finest)) // what goes on is shown up to now
}

func parseLength(s string) (time.Duration, error) {
	text, unit := s, time.Duration(1)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		text, unit = days+"h", 24
	}
	d, err := time.ParseDuration(text)
	if d > maxSpan*time.Second {
		d = 0
	}
	if d *= unit; err != nil || d < time.Minute || d > maxSpan*time.Second {
		return 0, badRequest{fmt.Errorf("last=%q is no length of time from 1m to 366d; write it as 90m, 24h or 7d", short(s, 20))}
	}
	return d, nil
}

// parseTime reads a time as RFC 3339, as a browser's form writes it (in UTC) or
// as Unix seconds.
func parseTime(name, s string) (int64, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n > 0 && n < 1<<34 {
		return n, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil && t.Unix() > 0 {
			return t.Unix(), nil
		}
	}
	return 0, badRequest{fmt.Errorf("%s=%q is no time; write it as 2026-01-31T12:00:00Z or as Unix seconds", name, short(s, 40))}
}

// emptyName stands in URLs for the empty name: the null sender.
const emptyName = "<>"

func nameFrom(s string) (string, error) {
	if len(s) > maxName || !utf8.ValidString(s) {
		return "", badRequest{fmt.Errorf("%q is no name", short(s, 40))}
	}
	if s == emptyName {
		return "", nil
	}
	return s, nil
}

// inPath returns a name as the last part of a page's path. What cannot stand there
// is in angle brackets: nothing, and what browsers take for a folder.
func inPath(name string) string {
	if name == "" || name == "." || name == ".." || bracketed(name) {
		name = "<" + name + ">"
	}
	return url.PathEscape(name)
}

// fromPath is the inverse of inPath, for what is no longer escaped.
func fromPath(s string) (string, error) {
	if bracketed(s) {
		s = s[1 : len(s)-1]
	}
	return nameFrom(s)
}

func bracketed(s string) bool { return len(s) > 1 && s[0] == '<' && s[len(s)-1] == '>' }

// link returns the URL of a page with the range and filters of v; a page that is
// about one name needs no filter for it. Further parameters replace filters: an
// empty one removes it.
func (v *view) link(path string, change map[string]string) string {
	q := v.values()
	for _, f := range filters {
		if strings.HasPrefix(path, pagePath(f.by)) && pagePath(f.by) != "" {
			q.Del(f.name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(change)) {
		q.Del(name)
		if change[name] != "" {
			q.Set(name, change[name])
		}
	}
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

// values returns the range and filters as the parameters of a URL.
func (v *view) values() url.Values {
	q := make(url.Values)
	switch {
	case v.last == "":
		q.Set("from", time.Unix(v.since, 0).UTC().Format(time.RFC3339))
		q.Set("to", time.Unix(v.until, 0).UTC().Format(time.RFC3339))
	case v.last != usualSpan:
		q.Set("last", v.last)
	}
	for _, f := range filters {
		if name, ok := v.where[f.by]; ok && !strings.HasPrefix(v.path, cmp.Or(pagePath(f.by), "-")) {
			q.Set(f.name, cmp.Or(name, emptyName))
		}
	}
	return q
}

// pagePath returns where the pages about single names of a dimension are, or ""
// if there are none.
func pagePath(d ledger.Dimension) string {
	switch d {
	case ledger.ByCategory:
		return "/reason/"
	case ledger.ByProvider:
		return "/provider/"
	case ledger.BySenderDomain:
		return "/domain/"
	}
	return ""
}

// to returns the link to the page about a name.
func (v *view) to(d ledger.Dimension, name string) string {
	return v.link(pagePath(d)+inPath(name), nil)
}

// axis is the time of v's charts.
func (v *view) axis() chart.Axis {
	return chart.Axis{Start: time.Unix(v.since, 0), Step: time.Duration(v.step) * time.Second, Slots: int((v.until - v.since + v.step - 1) / v.step)}
}

// span describes the range.
func (v *view) span() string {
	from, to := time.Unix(v.since, 0).UTC(), time.Unix(min(v.until, max(v.now, v.since)), 0).UTC()
	if v.until >= v.now {
		return from.Format("2006-01-02 15:04") + " UTC to now"
	}
	return from.Format("2006-01-02 15:04") + " to " + to.Format("2006-01-02 15:04") + " UTC"
}

// show makes a name fit to be shown.
func show(d ledger.Dimension, name string) string {
	if name == "" {
		if d == ledger.BySenderDomain {
			return emptyName
		}
		return "(unknown)"
	}
	return short(name, 100)
}

// short makes a text of whatever origin harmless, and cuts it after some
// characters.
func short(s string, most int) string {
	if len(s) > 8*most { // before any work on what is never shown
		s = s[:8*most]
	}
	s = report.Clean(s)
	n := 0
	for i := range s {
		if n++; n > most {
			return strings.TrimRight(s[:i], " ") + "…"
		}
	}
	return s
}
