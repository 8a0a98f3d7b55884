package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/bouncemeter/bouncemeter/ledger/alertjson"
)

// AlertmanagerConfig says where Alertmanagers are.
type AlertmanagerConfig struct {
	// URLs of all members of one cluster, such as http://127.0.0.1:9093, with
	// the path prefix if there is one. All are told of all alerts, as
	// Alertmanager asks for.
	URLs []string
	HTTP HTTPConfig
	// Resend is how often open alerts are sent again. Zero means a minute.
	Resend time.Duration
	// Link is the address of the daemon's page as people reach it; may be empty.
	Link string
}

// Alertmanager posts alerts to the API v2 of Prometheus Alertmanagers, which
// group, inhibit, silence and route them.
//
// An open alert is sent every Resend with an end that lies four times as far
// ahead: should the daemon die, Alertmanager resolves it by itself. What is over
// is sent with its end for a quarter of an hour, as Prometheus does, so that a
// member that was down for a while learns of it.
type Alertmanager struct {
	config AlertmanagerConfig
	http   *httpClient
	urls   []*url.URL

	sent map[string]standing // by alert ID, what is open there
	over []ended
}

// standing is an alert as Alertmanager has it.
type standing struct {
	key  string
	body amAlert
}

// ended is an alert that is over.
type ended struct {
	standing
	until time.Time // it is sent until then
}

// resolvedFor is how long the end of an alert is sent again.
const resolvedFor = 15 * time.Minute

// amAlert is a postable alert of API v2, and one of a webhook.
type amAlert struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL,omitempty"`
}

// NewAlertmanager returns a Teller for a cluster.
func NewAlertmanager(c AlertmanagerConfig) (*Alertmanager, error) {
	if c.Resend == 0 {
		c.Resend = time.Minute
	}
	a := &Alertmanager{config: c, sent: make(map[string]standing)}
	if len(c.URLs) == 0 {
		return nil, errors.New("urls: there are none; name every member: [http://127.0.0.1:9093]")
	}
	for i, s := range c.URLs {
		u, err := parseURL(s)
		if err != nil {
			return nil, fmt.Errorf("urls[%d]: %w", i, err)
		}
		a.urls = append(a.urls, u.JoinPath("api/v2/alerts"))
	}
	var err error
	a.http, err = newHTTPClient(c.HTTP)
	return a, err
}

// Every implements Teller.
func (a *Alertmanager) Every() time.Duration { return a.config.Resend }

// Tell implements Teller. One member that takes the alerts is enough; the others
// are sent them again with the next call.
func (a *Alertmanager) Tell(ctx context.Context, n *News) error {
	open, over := a.plan(n)
	var all []amAlert
	for _, id := range slices.Sorted(maps.Keys(open)) {
		all = append(all, open[id].body)
	}
	for _, e := range over {
		all = append(all, e.body)
	}
	if len(all) > 0 {
		if err := a.post(ctx, all); err != nil {
			return err
		}
	}
	a.sent, a.over = open, over
	return nil
}

// plan returns what is open now, by ID, and what is over, in the form to send.
// Alertmanager knows alerts by their labels: if those of an alert changed, the
// old ones are over; and what is open under some labels is not over.
func (a *Alertmanager) plan(n *News) (open map[string]standing, over []ended) {
	open = make(map[string]standing, len(n.Open))
	keys := make(map[string]bool)
	for i := range n.Open {
		s := a.alert(&n.Open[i].Alert)
		s.body.EndsAt = n.Now.Add(4 * a.config.Resend).UTC()
		open[n.Open[i].ID] = s
		keys[s.key] = true
	}
	end := func(s standing, at time.Time) {
		if at.After(n.Now) {
			at = n.Now // an end to come is none
		}
		if s.body.StartsAt.After(at) {
			s.body.StartsAt = at
		}
		s.body.EndsAt = at.UTC()
		over = append(over, ended{s, n.Now.Add(resolvedFor)})
		keys[s.key] = true
	}
	for i := range n.Items {
		if x := &n.Items[i]; !x.State.Open() {
			if s := a.alert(&x.Alert); !keys[s.key] {
				end(s, x.Resolved)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(a.sent)) {
		if s := a.sent[id]; !keys[s.key] {
			end(s, n.Now)
		}
	}
	for _, e := range a.over {
		if !keys[e.key] && n.Now.Before(e.until) {
			over = append(over, e)
		}
	}
	return open, over
}

// post sends alerts to every member at the same time. It succeeds if one member
// took them.
func (a *Alertmanager) post(ctx context.Context, all []amAlert) error {
	body, err := json.Marshal(all)
	if err != nil {
		return Refused(fmt.Errorf("write the alerts as JSON: %w", err))
	}
	results := make(chan error, len(a.urls))
	for _, u := range a.urls {
		go func() { results <- a.http.post(ctx, u, body, nil) }()
	}
	taken, refused := false, true
	var errs []error
	for range a.urls {
		switch err := <-results; {
		case err == nil:
			taken = true
		default:
			refused = refused && isRefused(err)
			errs = append(errs, err)
		}
	}
	switch {
	case taken:
		return nil
	case refused:
		return Refused(errors.Join(errs...))
	case len(errs) > 1:
		// Of several, those are told that may work another time.
		errs = slices.DeleteFunc(errs, isRefused)
	}
	return errors.Join(errs...)
}

func (a *Alertmanager) alert(x *alertjson.Alert) standing {
	b := amAlert{Labels: amLabels(x), Annotations: annotations(x), StartsAt: x.Since.UTC(), GeneratorURL: a.config.Link}
	if a.config.Link != "" {
		b.GeneratorURL = alertURL(a.config.Link, x.ID)
	}
	return standing{labelsKey(b.Labels), b}
}

// amLabels identify an alert. They are the same as long as it lasts, but for the
// severity, which may rise.
func amLabels(x *alertjson.Alert) map[string]string {
	l := map[string]string{
		"alertname": clean(x.Rule, maxLabel), "job": "bouncemeter", "kind": clean(x.Kind, maxLabel), "severity": clean(string(x.Severity), maxLabel),
	}
	for d, name := range x.Labels {
		l[d] = clean(name, maxLabel)
	}
	maps.DeleteFunc(l, func(_, v string) bool { return v == "" })
	return l
}

// labelsKey is the same for the same labels only.
func labelsKey(l map[string]string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(l)) {
		fmt.Fprintf(&b, "%s=%q,", k, l[k])
	}
	return b.String()
}

// annotations tell people what is wrong. Texts of remote servers are made
// harmless, as Alertmanager's receivers show them as they are.
func annotations(x *alertjson.Alert) map[string]string {
	samples := replies(x)
	for i := range samples {
		samples[i] = clean(samples[i], maxReply)
	}
	a := map[string]string{
		"id": x.ID, "incident": x.Incident, "category": x.Category,
		"summary": clean(x.Title, maxTitle), "description": clean(x.Summary, maxText), "advice": clean(x.Advice, maxText),
		"where": clean(strings.Join(where(x), "; "), maxText), "unchanged": clean(strings.Join(x.Unchanged, "; "), maxText),
		"replies": strings.Join(samples, "\n"),
	}
	if x.Attempts > 0 {
		a["failures"], a["attempts"] = fmt.Sprint(x.Failures), fmt.Sprint(x.Attempts)
		a["ratio"], a["usual"], a["excess"] = percent(x.Ratio), percent(x.Usual), fmt.Sprintf("%.0f", x.Excess)
	}
	maps.DeleteFunc(a, func(_, v string) bool { return v == "" })
	return a
}
