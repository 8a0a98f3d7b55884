// Package web serves the daemon's own page and its JSON API.
//
// Pages are made on the server and work without script; a small one keeps them
// live and shows what a chart's slot holds at once. They answer from memory
// (package cache) what the ledger would take long for. Every text that came from
// a remote server is shown as text: cleaned of control characters, cut, escaped
// by the template, under a Content-Security-Policy that allows no inline script
// or style. All that can be changed here are silences of alerts. Like requests
// that hand over a reply to classify, that is by POST, which the daemon refuses in
// front if another site sends it.
package web

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzhttp"

	"github.com/bouncemeter/bouncemeter/classifier"
	"github.com/bouncemeter/bouncemeter/internal/chart"
	"github.com/bouncemeter/bouncemeter/internal/report"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/cache"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

// Ledger is what pages need of the ledger.
type Ledger interface {
	report.Querier
	// Alerts returns changes of alerts in order of Seq.
	Alerts(ctx context.Context, f ledger.AlertFilter) ([]ledger.Alert, error)
	// Silences returns the silences made here, also those that are over, and
	// SetSilence stores one.
	Silences(ctx context.Context) ([]ledger.Silence, error)
	SetSilence(ctx context.Context, s *ledger.Silence) error
}

// Lane is how a lane that is being read is doing.
type Lane struct {
	Source, Lane string
	// Lag is what is known to wait, in the unit of the lane's offset.
	Lag int64
	// Read is when the lane was last read.
	Read time.Time
	// Err is why commits fail at present, or "".
	Err string
}

// Options is what a Server works with.
type Options struct {
	Ledger Ledger
	// Classifier returns the rules in force.
	Classifier func() *classifier.Classifier
	// TryRules returns the rules in force with those of a further rule file, given
	// as text. May be nil.
	TryRules func(draft string) (*classifier.Classifier, error)
	// Lanes returns the state of every lane that is being read. May be nil.
	Lanes func() []Lane
	// DeadLetters is the file of the lines that could not be read, or "".
	DeadLetters string
	// Minutes and Hours are how long the ledger keeps these grains; zero takes
	// those of ledger.DefaultRetention.
	Minutes, Hours time.Duration
	// Shared is set if other processes write to the ledger, too.
	Shared  bool
	Version string
	Log     *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Server makes the pages. Its methods may be called concurrently.
type Server struct {
	o       Options
	cache   *cache.Cache
	live    *hub
	gate    chan struct{} // one for each answer that is being made
	made    pages
	handler http.Handler

	// mining guards the session that mines unclassified replies by the rules of
	// mines.
	mining sync.Mutex
	miner  *classifier.Session
	mines  *classifier.Classifier
}

//go:embed templates/*.html
var templateFiles embed.FS

var templates = template.Must(template.Must(template.New("").Funcs(template.FuncMap{"asset": assetURL}).Parse(chart.Template)).ParseFS(templateFiles, "templates/*.html"))

// New returns a server. Run keeps it live.
func New(o Options) *Server {
	o.Minutes = cmp.Or(o.Minutes, ledger.DefaultRetention.Minutes)
	o.Hours = max(cmp.Or(o.Hours, ledger.DefaultRetention.Hours), o.Minutes)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := cache.Options{Minutes: o.Minutes, Hours: o.Hours, Now: o.Now}
	if o.Shared {
		c.Shared = 15 * time.Second
	}
	s := &Server{o: o, cache: cache.New(o.Ledger, c), live: newHub(), gate: make(chan struct{}, atATime)}
	s.handler = s.routes()
	return s
}

// Committed tells that the ledger now holds d. It does not block.
func (s *Server) Committed(source string, d *window.Delta) {
	s.cache.Committed(source, d)
	if len(d.Counts) > 0 {
		s.live.changed()
	}
}

// ServeHTTP answers requests for pages, for what they are made of and for the
// API.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// route is one entry of the server.
type route struct {
	pattern    string // of http.ServeMux
	handle     http.HandlerFunc
	parameters []string // that a query may have, of the API
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for _, r := range append(s.pageRoutes(), s.apiRoutes()...) {
		mux.HandleFunc(r.pattern, r.handle)
	}
	zip, err := gzhttp.NewWrapper(gzhttp.MinSize(1400), gzhttp.SuffixETag("-gzip"), gzhttp.ContentTypes([]string{"text/html", "text/css", "text/javascript", "application/json"}))
	if err != nil {
		panic(err) // its options are constants
	}
	packed := zip(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if r.URL.Path == "/live" {
			mux.ServeHTTP(w, r) // what is flushed event by event is not compressed
			return
		}
		packed.ServeHTTP(w, r)
	})
}

// policy allows what comes from here, and nothing inline.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// notFound is an error of a page that is not there.
type notFound struct{ error }

// page is what the frame of every page needs.
type page struct {
	Title   string
	View    *view
	Version string
	Nav     []navItem
	Ranges  []navItem
	Chips   []chip
	Span    string
	From    string
	To      string
	Query   []place // hidden fields of the form of a time range
	Live    bool
	Ranged  bool
	Body    any
	Content template.HTML
}

type navItem struct {
	Name, Link string
	Here       bool
}

// chip is a filter and the link without it.
type chip struct{ Kind, Name, Without string }

const (
	// slowest is how long an answer may take before the client is told to ask
	// for less.
	slowest = 20 * time.Second
	// atATime is how many answers are made at a time; others wait.
	atATime = 4
)

// turn waits until an answer may be made; done says that it has been.
func (s *Server) turn(ctx context.Context) (done func(), err error) {
	select {
	case s.gate <- struct{}{}:
		return func() { <-s.gate }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// traits of a page.
type traits uint8

const (
	live   traits = 1 << iota // it shows what is new by itself
	ranged                    // it is about a range of time
)

// serve returns the handler of a page whose template has the given name. make
// returns what the template shows and the title.
func (s *Server) serve(name string, t traits, make func(ctx context.Context, v *view, r *http.Request) (any, string, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		whole, err := s.made.get(r.URL.RequestURI(), t&live != 0, s.live.version(), s.o.Now(), func() ([]byte, error) {
			// Others may wait for the same page when this client goes.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), slowest)
			defer cancel()
			done, err := s.turn(ctx)
			if err != nil {
				return nil, err
			}
			defer done()
			v, err := s.parseView(r)
			if err != nil {
				return nil, err
			}
			body, title, err := make(ctx, v, r)
			if err != nil {
				return nil, err
			}
			return s.render(name, &page{Title: title, View: v, Body: body, Live: t&live != 0 && v.last != "", Ranged: t&ranged != 0})
		})
		if err != nil {
			s.fail(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		s.send(w, r, http.StatusOK, whole)
	}
}

// fail shows an error page that helps.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	status, text := s.status(r, err)
	v := &view{path: r.URL.EscapedPath(), last: usualSpan, now: s.o.Now().Unix(), where: nil}
	v.since, v.until, v.step = v.now-6*3600, v.now, 300
	whole, err := s.render("error.html", &page{Title: http.StatusText(status), View: v, Body: sentence(text)})
	if err != nil {
		s.o.Log.Error("make a page", "path", r.URL.Path, "err", err)
		http.Error(w, text, status)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	s.send(w, r, status, whole)
}

// status says what to answer to an error, and logs what is no fault of the
// client.
func (s *Server) status(r *http.Request, err error) (int, string) {
	if bad, ok := errors.AsType[badRequest](err); ok {
		return http.StatusBadRequest, bad.Error()
	}
	if none, ok := errors.AsType[notFound](err); ok {
		return http.StatusNotFound, none.Error()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return http.StatusServiceUnavailable, "the ledger took too long to answer; ask for a shorter time, or try again in a moment"
	}
	if !errors.Is(err, context.Canceled) {
		s.o.Log.Error("answer a request", "path", r.URL.Path, "err", err)
	}
	return http.StatusInternalServerError, "the ledger cannot be read at the moment; the daemon's log says why"
}

func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// render makes a page of the template of this name and the frame around it.
func (s *Server) render(name string, p *page) ([]byte, error) {
	v := p.View
	p.Version = s.o.Version
	p.Span = v.span()
	p.From, p.To = formTime(v.since), formTime(min(v.until, max(v.now, v.since+60)))
	for _, n := range navigation {
		link := v.link(n.Link, nil)
		p.Nav = append(p.Nav, navItem{n.Name, link, n.Link == v.path || n.Link != "/" && strings.HasPrefix(v.path, n.Link+"/") || n.section != "" && strings.HasPrefix(v.path, n.section)})
	}
	for _, x := range spans {
		p.Ranges = append(p.Ranges, navItem{x.name, v.link(v.path, map[string]string{"last": rangeParameter(x.name), "from": "", "to": ""}), x.name == v.last})
	}
	for _, f := range filters {
		value, ok := v.where[f.by]
		if !ok || strings.HasPrefix(v.path, cmp.Or(pagePath(f.by), "-")) {
			continue
		}
		p.Chips = append(p.Chips, chip{f.title, show(f.by, value), v.link(v.path, map[string]string{f.name: ""})})
		p.Query = append(p.Query, place{Name: f.name, Share: cmp.Or(value, emptyName)})
	}
	var b, whole bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, p); err != nil {
		return nil, fmt.Errorf("make the page %s: %w", name, err)
	}
	p.Content = template.HTML(b.String()) //nolint:gosec // made by a template just now
	if err := templates.ExecuteTemplate(&whole, "frame.html", p); err != nil {
		return nil, fmt.Errorf("make the page %s: %w", name, err)
	}
	return whole.Bytes(), nil
}

// rangeParameter leaves out the range that pages have anyway.
func rangeParameter(name string) string {
	if name == usualSpan {
		return ""
	}
	return name
}

func formTime(t int64) string { return time.Unix(t, 0).UTC().Format("2006-01-02T15:04") }

// send answers with body, or tells that it is what the client has already.
func (s *Server) send(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	h := w.Header()
	if status == http.StatusOK && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		sum := sha256.Sum256(body)
		tag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
		h.Set("ETag", tag)
		h.Set("Cache-Control", "no-cache")
		if sameTag(r.Header.Get("If-None-Match"), tag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	} else {
		h.Set("Cache-Control", "no-store")
	}
	w.WriteHeader(status)
	if _, err := w.Write(body); err != nil {
		s.o.Log.Debug("send an answer", "err", fmt.Sprint(err))
	}
}

// sameTag reports whether an If-None-Match header (RFC 9110 section 13.1.2)
// names the tag, weakly compared.
func sameTag(header, tag string) bool {
	for t := range strings.SplitSeq(header, ",") {
		t = strings.TrimPrefix(strings.TrimSpace(t), "W/")
		// A compressed answer has a tag of its own.
		if t == "*" || strings.Replace(t, `-gzip"`, `"`, 1) == tag {
			return true
		}
	}
	return false
}
