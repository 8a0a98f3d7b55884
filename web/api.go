package web

import (
	"bytes"
	"context"
	_ "embed" // for the description
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bouncemeter/bouncemeter/classifier"
	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/report"
	"github.com/bouncemeter/bouncemeter/ledger"
)

// description is the OpenAPI document of the API.
//
//go:embed openapi.json
var description []byte

// What the API answers at the most.
const (
	apiRows   = 10_000 // rows of counts
	apiSlots  = 2_000  // of time
	apiValues = 100    // of all filters together
	apiItems  = 1_000  // alerts, wordings, replies
	apiBody   = 4 << 20
)

func (s *Server) apiRoutes() []route {
	return []route{
		s.api("GET /api/v1/counts", s.apiCounts, "last", "from", "to", "by", "step", "limit"),
		s.api("GET /api/v1/alerts", s.apiAlerts, "last", "from", "to", "open", "limit"),
		s.api("GET /api/v1/alerts/{id}", s.apiAlert),
		s.api("GET /api/v1/templates", s.apiTemplates, "category", "provider", "limit"),
		s.api("GET /api/v1/unclassified", s.apiUnclassified, "provider"),
		s.api("GET /api/v1/categories", apiCategories),
		s.api("GET /api/v1/sources", s.apiSources),
		s.api("GET /api/v1/report", s.apiReport, "last", "from", "to"),
		s.api("POST /api/v1/classify", s.apiClassify),
		s.api("POST /api/v1/explain", s.apiExplain),
		{pattern: "GET /api/v1/openapi.json", handle: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			s.send(w, r, http.StatusOK, description)
		}},
		{pattern: "/api/", handle: func(w http.ResponseWriter, r *http.Request) {
			s.apiFail(w, http.StatusNotFound, "there is no such address or method; /api/v1/openapi.json lists all there are")
		}},
	}
}

// api returns one address of the API. Parameters other than those named are an
// error: a typing error must not give an answer to another question. Who can
// group by dimensions can filter by them.
func (s *Server) api(pattern string, answer func(ctx context.Context, r *http.Request) (any, error), parameters ...string) route {
	if slices.Contains(parameters, "by") {
		parameters = append(parameters, dimensionNames[:]...)
	}
	return route{pattern: pattern, parameters: parameters, handle: func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), slowest)
		defer cancel()
		body, err := func() (any, error) {
			for name := range r.URL.Query() {
				if !slices.Contains(parameters, name) {
					return nil, badRequest{fmt.Errorf("there is no parameter %q", short(name, 40))}
				}
			}
			done, err := s.turn(ctx)
			if err != nil {
				return nil, err
			}
			defer done()
			return answer(ctx, r)
		}()
		if err != nil {
			status, text := s.status(r, err)
			s.apiFail(w, status, text)
			return
		}
		var b bytes.Buffer
		if err := report.EncodeJSON(&b, body); err != nil {
			status, text := s.status(r, err)
			s.apiFail(w, status, text)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		s.send(w, r, http.StatusOK, b.Bytes())
	}}
}

// apiFail answers with an error as JSON.
func (s *Server) apiFail(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	var b bytes.Buffer
	if err := report.EncodeJSON(&b, map[string]string{"error": text}); err != nil {
		s.o.Log.Error("make an answer", "err", err)
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		s.o.Log.Debug("send an answer", "err", err)
	}
}

// dimensionNames are the dimensions by their names in the API.
var dimensionNames = [ledger.Dimensions]string{
	ledger.BySource: "source", ledger.ByLane: "lane", ledger.ByOutcome: "outcome", ledger.ByCategory: "category", ledger.BySecondary: "secondary",
	ledger.ByProvider: "provider", ledger.BySenderDomain: "sender_domain", ledger.ByHost: "host", ledger.ByStream: "stream",
}

// dimensionNamed returns the dimension of this name, or -1.
func dimensionNamed(name string) int { return slices.Index(dimensionNames[:], name) }

// Counts answers a question for counts.
type Counts struct {
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	// StepSeconds is the length of the slots of time; 0 without.
	StepSeconds int64 `json:"step_seconds"`
	// Complete is false if there are more rows than the limit: those with most
	// attempts are given.
	Complete bool       `json:"complete"`
	Rows     []CountRow `json:"rows"`
}

// CountRow is one group of counts.
type CountRow struct {
	// Start is the beginning of the slot; null without a step.
	Start *time.Time `json:"start"`
	// Keys are the names by dimension.
	Keys map[string]string `json:"keys"`
	// Attempts counts tries (for the outcome expired: messages given up), Firsts
	// those that were the first for their recipient.
	Attempts int64 `json:"attempts"`
	Firsts   int64 `json:"firsts"`
}

func (s *Server) apiCounts(ctx context.Context, r *http.Request) (any, error) {
	query := r.URL.Query()
	q, err := s.apiRange(query)
	if err != nil {
		return nil, err
	}
	for _, list := range query["by"] {
		for name := range strings.SplitSeq(list, ",") {
			d := dimensionNamed(name)
			if d < 0 {
				return nil, badRequest{fmt.Errorf("by=%q is no dimension; there are %s", short(name, 40), strings.Join(dimensionNames[:], ", "))}
			}
			if !slices.Contains(q.By, ledger.Dimension(d)) {
				q.By = append(q.By, ledger.Dimension(d))
			}
		}
	}
	if text := query.Get("step"); text != "" {
		step, err := parseLength(text)
		if q.Step = int64(step / time.Second); err != nil || q.Step%60 != 0 || (q.Until-q.Since)/q.Step > apiSlots {
			return nil, badRequest{fmt.Errorf("step=%q has to be whole minutes, such as 5m or 1h, and at most %d of them make up the time asked for", short(text, 20), apiSlots)}
		}
	}
	limit, err := apiLimit(query, 1000, apiRows)
	if err != nil {
		return nil, err
	}
	q.Where = make(map[ledger.Dimension][]string)
	values := 0
	for d, name := range dimensionNames {
		if values += len(query[name]); values > apiValues {
			return nil, badRequest{fmt.Errorf("there are more than %d values to filter by", apiValues)}
		}
		for _, value := range query[name] {
			if value, err = nameFrom(value); err != nil {
				return nil, err
			}
			q.Where[ledger.Dimension(d)] = append(q.Where[ledger.Dimension(d)], value)
		}
	}
	q.Limit = limit + 1
	rows, err := s.cache.Query(ctx, q)
	if err != nil {
		return nil, err
	}
	answer := &Counts{
		Since: time.Unix(q.Since, 0).UTC(), Until: time.Unix(q.Until, 0).UTC(), StepSeconds: q.Step,
		Complete: len(rows) <= limit, Rows: []CountRow{},
	}
	if !answer.Complete {
		least := 0 // of all the one with the fewest attempts is too many
		for i := range rows {
			if rows[i].Attempts <= rows[least].Attempts {
				least = i
			}
		}
		rows = slices.Delete(rows, least, least+1)
	}
	for _, row := range rows {
		c := CountRow{Keys: make(map[string]string), Attempts: row.Attempts, Firsts: row.Firsts}
		if q.Step > 0 {
			start := time.Unix(row.Start, 0).UTC()
			c.Start = &start
		}
		for i, d := range q.By {
			c.Keys[dimensionNames[d]] = row.Keys[i]
		}
		answer.Rows = append(answer.Rows, c)
	}
	return answer, nil
}

// apiRange reads a range of time: from and to as they are, to be exact, or last
// rounded to whole 5 minutes so that memory can answer. The default is a day.
func (s *Server) apiRange(query url.Values) (q ledger.Query, err error) {
	now := s.o.Now().Unix()
	if query.Has("from") {
		if q.Since, err = parseTime("from", query.Get("from")); err != nil {
			return q, err
		}
		q.Until = now + 1
		if query.Has("to") {
			if q.Until, err = parseTime("to", query.Get("to")); err != nil {
				return q, err
			}
		}
	} else {
		if query.Has("to") {
			return q, badRequest{errors.New("to needs from")}
		}
		length := 24 * time.Hour
		if query.Has("last") {
			if length, err = parseLength(query.Get("last")); err != nil {
				return q, err
			}
		}
		q.Until = (now + 299) / 300 * 300
		q.Since = (now - int64(length/time.Second)) / 300 * 300
	}
	if q.Until <= q.Since || q.Until-q.Since > maxSpan+600 {
		return q, badRequest{errors.New("from and to are no time range of up to 366 days")}
	}
	return q, nil
}

func apiLimit(query url.Values, usual, most int) (int, error) {
	text := query.Get("limit")
	if text == "" {
		return usual, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, badRequest{fmt.Errorf("limit=%q is no number from 1 to %d", short(text, 20), most)}
	}
	return n, nil
}

// AlertChange is one change of one alert.
type AlertChange struct {
	Seq   int64     `json:"seq"`
	ID    string    `json:"id"`
	State string    `json:"state"`
	Open  bool      `json:"open"`
	Rule  string    `json:"rule"`
	Time  time.Time `json:"time"`
	// Alert is the whole alert as of then.
	Alert json.RawMessage `json:"alert"`
}

func alertChanges(changes []ledger.Alert) []AlertChange {
	all := make([]AlertChange, 0, len(changes))
	for _, c := range changes {
		body := json.RawMessage(c.Body)
		if !json.Valid(body) {
			body = json.RawMessage("null")
		}
		all = append(all, AlertChange{c.Seq, c.ID, c.State, c.Open, c.Rule, time.Unix(c.Time, 0).UTC(), body})
	}
	return all
}

func (s *Server) apiAlerts(ctx context.Context, r *http.Request) (any, error) {
	query := r.URL.Query()
	f := ledger.AlertFilter{Latest: true}
	switch query.Get("open") {
	case "", "false":
	case "true":
		f.Open = true
	default:
		return nil, badRequest{errors.New("open is either true or false")}
	}
	if !f.Open || query.Has("last") || query.Has("from") {
		q, err := s.apiRange(query)
		if err != nil {
			return nil, err
		}
		f.Since, f.Until = q.Since, q.Until
	}
	limit, err := apiLimit(query, 100, apiItems)
	if err != nil {
		return nil, err
	}
	f.Limit, f.Newest = limit, true
	all, err := s.o.Ledger.Alerts(ctx, f)
	if err != nil {
		return nil, err
	}
	slices.Reverse(all)
	return map[string]any{"alerts": alertChanges(all)}, nil
}

func (s *Server) apiAlert(ctx context.Context, r *http.Request) (any, error) {
	id := r.PathValue("id")
	all, err := s.o.Ledger.Alerts(ctx, ledger.AlertFilter{ID: id, Limit: apiItems, Newest: true})
	if err == nil && len(all) == 0 {
		err = notFound{fmt.Errorf("there is no alert %s", short(id, 40))}
	}
	return map[string]any{"id": id, "changes": alertChanges(all)}, err
}

// Template is one wording of a failure, counted over all time.
type Template struct {
	Hash     string    `json:"hash"`
	Category string    `json:"category"`
	Provider string    `json:"provider"`
	Rule     string    `json:"rule"`
	Text     string    `json:"text"`
	Attempts int64     `json:"attempts"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
}

func (s *Server) apiTemplates(ctx context.Context, r *http.Request) (any, error) {
	query := r.URL.Query()
	limit, err := apiLimit(query, 100, apiItems)
	if err != nil {
		return nil, err
	}
	stored, err := s.o.Ledger.Templates(ctx, ledger.TemplateFilter{Category: query.Get("category"), Provider: query.Get("provider")}, limit)
	if err != nil {
		return nil, err
	}
	all := make([]Template, 0, len(stored))
	for _, t := range stored {
		all = append(all, Template{
			fmt.Sprintf("%016x", t.Hash), t.Category, t.Provider, t.Rule, short(t.Text, 4000), t.Attempts, time.Unix(t.First, 0).UTC(), time.Unix(t.Last, 0).UTC(),
		})
	}
	return map[string]any{"templates": all}, nil
}

// Cluster is one wording of unclassified replies, counted over all time.
type Cluster struct {
	Template  string            `json:"template"`
	Count     uint64            `json:"count"`
	Providers map[string]uint64 `json:"providers"`
	First     time.Time         `json:"first"`
	Last      time.Time         `json:"last"`
	Samples   []string          `json:"samples"`
	// Draft is a rule for it in YAML, to be completed by a person.
	Draft string `json:"draft"`
}

func (s *Server) apiUnclassified(ctx context.Context, r *http.Request) (any, error) {
	clusters, err := s.clusters(ctx, r.URL.Query().Get("provider"))
	if err != nil {
		return nil, err
	}
	all := make([]Cluster, 0, len(clusters))
	for i, c := range clusters[:min(len(clusters), maxClusters)] {
		all = append(all, Cluster{c.Template, c.Count, c.Providers, time.UnixMicro(c.First).UTC(), time.UnixMicro(c.Last).UTC(), c.Samples, c.Draft(draftID(i))})
	}
	return map[string]any{"clusters": all}, nil
}

// Category is a reason of the taxonomy.
type Category struct {
	Category string `json:"category"`
	Group    string `json:"group"`
	Owner    string `json:"owner"`
	Meaning  string `json:"meaning"`
	Advice   string `json:"advice"`
}

func apiCategories(context.Context, *http.Request) (any, error) {
	var all []Category
	for _, c := range event.Categories() {
		i := c.Info()
		all = append(all, Category{i.ID, i.Group, i.Owner, i.Meaning, i.Advice})
	}
	return map[string]any{"categories": all}, nil
}

func (s *Server) apiSources(ctx context.Context, _ *http.Request) (any, error) {
	lanes, err := s.lanes(ctx)
	return map[string]any{"lanes": lanes}, err
}

// gather makes the report of a range.
func (s *Server) gather(ctx context.Context, query url.Values) (*report.Report, error) {
	q, err := s.apiRange(query)
	if err != nil {
		return nil, err
	}
	if !query.Has("from") {
		q.Until = 0 // what is dated a little ahead of us, too
	}
	return report.FromLedger(ctx, s.o.Ledger, q.Since, q.Until)
}

func (s *Server) apiReport(ctx context.Context, r *http.Request) (any, error) {
	return s.gather(ctx, r.URL.Query())
}

// reportFile is the report as a page that needs nothing else, to be sent around.
func (s *Server) reportFile(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), slowest)
	defer cancel()
	done, err := s.turn(ctx)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer done()
	rep, err := s.gather(ctx, r.URL.Query())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	var b bytes.Buffer
	if err := report.WriteHTML(&b, rep); err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Security-Policy", report.Policy+"; frame-ancestors 'none'")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	s.send(w, r, http.StatusOK, b.Bytes())
}

// Reply is a reply to classify.
type Reply struct {
	Text string `json:"text"`
	// MX is the host that gave the reply, which tells the provider; may be empty.
	MX string `json:"mx"`
}

func (s *Server) apiClassify(_ context.Context, r *http.Request) (any, error) {
	var body struct {
		Replies []Reply `json:"replies"`
	}
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	if len(body.Replies) == 0 || len(body.Replies) > apiItems {
		return nil, badRequest{fmt.Errorf("replies has to have 1 to %d entries", apiItems)}
	}
	c := s.o.Classifier()
	verdicts := make([]Verdict, 0, len(body.Replies))
	for i, x := range body.Replies {
		if err := x.check(); err != nil {
			return nil, badRequest{fmt.Errorf("replies[%d]: %w", i, err)}
		}
		verdict, _ := judge(c, reply(x.Text, x.MX))
		verdicts = append(verdicts, verdict)
	}
	return map[string]any{"verdicts": verdicts}, nil
}

func (x *Reply) check() error {
	if len(x.Text) > maxReply || len(x.MX) > maxName {
		return fmt.Errorf("a text has up to %d KB, and a host name up to %d bytes", maxReply>>10, maxName)
	}
	return nil
}

func (s *Server) apiExplain(_ context.Context, r *http.Request) (any, error) {
	var x Reply
	if err := readJSON(r, &x); err != nil {
		return nil, err
	}
	if err := x.check(); err != nil {
		return nil, badRequest{err}
	}
	verdict, why := judge(s.o.Classifier(), reply(x.Text, x.MX))
	return struct {
		Verdict Verdict `json:"verdict"`
		classifier.Explanation
	}{verdict, why}, nil
}

// readJSON reads a body that has to be JSON by its type, too: that is what a form
// of another site cannot send.
func readJSON(r *http.Request, to any) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return badRequest{errors.New("the Content-Type has to be application/json")}
	}
	d := json.NewDecoder(http.MaxBytesReader(nil, r.Body, apiBody))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return badRequest{fmt.Errorf("the body is not what is expected: %w", err)}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return badRequest{errors.New("there is more than one value in the body")}
	}
	return nil
}

// draftID names the draft of a rule.
func draftID(i int) string { return "mine-" + strconv.Itoa(i+1) }
