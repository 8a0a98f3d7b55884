package web

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/bouncemeter/bouncemeter/internal/report"
	"github.com/bouncemeter/bouncemeter/ledger"
)

// silences are the lengths that the page offers.
var silences = []struct{ Value, Name string }{{"1h", "an hour"}, {"4h", "4 hours"}, {"24h", "a day"}, {"7d", "a week"}}

const (
	maxSilenced = 90 * day // seconds
	maxComment  = 500      // bytes
	// mostSilences is how many may hold at a time.
	mostSilences = 200
)

// silenceRow is a silence that holds.
type silenceRow struct {
	ID, Comment, Until string
	Labels             []place
}

// silencePanel is what the page of an alert says of silences.
type silencePanel struct {
	Alert   string
	Lengths []struct{ Value, Name string }
	Labels  []place      // of what would be silenced
	Holding []silenceRow // that cover the alert now
}

// silenceLabels are those that alerts like a have, exactly.
func (a *alert) silenceLabels() map[string]string {
	all := maps.Clone(a.Labels)
	if all == nil {
		all = make(map[string]string)
	}
	all["rule"] = a.Rule
	return all
}

// labelPlaces shows the labels of a silence.
func labelPlaces(labels map[string]string) []place {
	var all []place
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		name, by := k, ledger.Dimensions
		for _, f := range filters {
			if f.name == k {
				name, by = f.title, f.by
			}
		}
		all = append(all, place{Name: show(by, labels[k]), Share: short(name, 40)})
	}
	return all
}

func (s *Server) silenceRow(x *ledger.Silence) silenceRow {
	return silenceRow{ID: x.ID, Comment: short(x.Comment, maxComment), Until: moment(x.Until.Unix()), Labels: labelPlaces(x.Labels)}
}

// holding returns the silences that hold now, the one that ends last first.
func (s *Server) holding(ctx context.Context) ([]ledger.Silence, error) {
	all, err := s.o.Ledger.Silences(ctx)
	now := s.o.Now()
	return slices.DeleteFunc(all, func(x ledger.Silence) bool { return now.Before(x.From) || !now.Before(x.Until) }), err
}

// silencePanel makes the panel of an alert's page.
func (s *Server) silencePanel(ctx context.Context, a *alert) (*silencePanel, error) {
	p := &silencePanel{Alert: a.ID, Lengths: silences, Labels: labelPlaces(a.silenceLabels())}
	all, err := s.holding(ctx)
	for i := range all {
		if all[i].Covers(s.o.Now(), a.Rule, a.Category, a.Labels) {
			p.Holding = append(p.Holding, s.silenceRow(&all[i]))
		}
	}
	return p, err
}

// silence makes a silence for alerts like the one that the address names, and
// leads back to its page.
func (s *Server) silence(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("name")
	if err := s.makeSilence(r, id); err != nil {
		s.fail(w, r, err)
		return
	}
	s.changed()
	http.Redirect(w, r, "/alerts/"+url.PathEscape(id), http.StatusSeeOther)
}

func (s *Server) makeSilence(r *http.Request, id string) error {
	r.Body = http.MaxBytesReader(nil, r.Body, 16<<10)
	if err := r.ParseForm(); err != nil {
		return badRequest{fmt.Errorf("the form cannot be read: %w", err)}
	}
	length, err := parseLength(r.PostForm.Get("for"))
	if err != nil || length > maxSilenced*time.Second {
		return badRequest{fmt.Errorf("for=%q is no length of time of up to %d days; write it as 4h or 7d", short(r.PostForm.Get("for"), 20), maxSilenced/day)}
	}
	comment := strings.TrimSpace(r.PostForm.Get("comment"))
	if user, _, ok := r.BasicAuth(); ok && user != "" { // checked by who is in front
		comment = strings.TrimPrefix(comment+", "+user, ", ")
	}
	if comment == "" || len(comment) > maxComment {
		return badRequest{fmt.Errorf("say why and who in up to %d letters, for those who wonder later", maxComment)}
	}
	changes, err := s.o.Ledger.Alerts(r.Context(), ledger.AlertFilter{ID: id, Limit: 1, Newest: true})
	if err != nil {
		return err
	}
	if len(changes) == 0 {
		return notFound{fmt.Errorf("there is no alert %s", short(id, 40))}
	}
	all, err := s.holding(r.Context())
	if err != nil {
		return err
	}
	if len(all) >= mostSilences {
		return badRequest{fmt.Errorf("there are %d silences already; end some of them", len(all))}
	}
	a := readAlert(changes[0])
	now := s.o.Now()
	x := &ledger.Silence{ID: rand.Text(), Comment: comment, Labels: a.silenceLabels(), From: now, Until: now.Add(length)}
	if err := s.o.Ledger.SetSilence(r.Context(), x); err != nil {
		return err
	}
	s.o.Log.Info("silence", "id", x.ID, "labels", x.Labels, "until", x.Until, "comment", report.Clean(comment), "client", r.RemoteAddr)
	return nil
}

// endSilence ends the silence that the address names.
func (s *Server) endSilence(w http.ResponseWriter, r *http.Request) {
	all, err := s.holding(r.Context())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	// One that is over already needs nothing.
	if i := slices.IndexFunc(all, func(x ledger.Silence) bool { return x.ID == r.PathValue("id") }); i >= 0 {
		all[i].Until = s.o.Now()
		if err := s.o.Ledger.SetSilence(r.Context(), &all[i]); err != nil {
			s.fail(w, r, err)
			return
		}
		s.o.Log.Info("silence ended", "id", all[i].ID, "client", r.RemoteAddr)
		s.changed()
	}
	http.Redirect(w, r, "/alerts", http.StatusSeeOther)
}

// changed makes pages anew after something was done on one of them.
func (s *Server) changed() {
	s.made.forget()
	s.live.changed()
}
