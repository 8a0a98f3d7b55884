package web

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/bouncemeter/bouncemeter/classifier"
	"github.com/bouncemeter/bouncemeter/classifier/mine"
	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/report"
	"github.com/bouncemeter/bouncemeter/ledger"
)

// maxReply is how much of a reply is looked at, in bytes: much more than SMTP
// allows for one.
const maxReply = 16 << 10

// Verdict is what is known of a reply, for the API and for commands. Absent fields
// are not known.
type Verdict struct {
	Category    string                `json:"category"`
	Group       string                `json:"group"`
	Owner       string                `json:"owner"`
	Persistence string                `json:"persistence,omitempty"`
	Confidence  float64               `json:"confidence"`
	Rule        string                `json:"rule,omitempty"`
	Provider    string                `json:"provider"`
	Code        uint16                `json:"code,omitempty"`
	Enhanced    string                `json:"enhanced,omitempty"`
	Secondary   string                `json:"secondary,omitempty"`
	Blocklist   *classifier.Blocklist `json:"blocklist,omitempty"`
	RetryAfter  int64                 `json:"retry_after,omitempty"` // seconds
	Advice      string                `json:"advice"`
}

// reply makes the event of a reply that somebody hands over.
func reply(text, mx string) *event.Event {
	return &event.Event{Kind: event.Attempt, Relay: []byte(mx), Reply: event.Reply{Text: []byte(text)}}
}

// NewVerdict tells what is known of a reply that a provider gave.
func NewVerdict(v *event.Verdict, provider string, d *classifier.Details) Verdict {
	i := v.Category.Info()
	return Verdict{
		Category: i.ID, Group: i.Group, Owner: i.Owner, Advice: i.Advice, Persistence: v.Persistence.String(),
		Confidence: float64(int(v.Confidence*100+0.5)) / 100, // it has no more to say
		Rule:       v.Rule, Provider: provider, Code: d.Code, Enhanced: d.Enhanced.String(),
		Secondary: v.Secondary.String(), Blocklist: d.Blocklist, RetryAfter: int64(d.RetryAfter.Seconds()),
	}
}

// judge classifies a reply and says why.
func judge(c *classifier.Classifier, e *event.Event) (Verdict, classifier.Explanation) {
	x, d := c.Explain(e), c.Details(e)
	return NewVerdict(&x.Verdict, x.Provider, &d), x
}

// tryPage explains a reply that was pasted.
type tryPage struct {
	Text, MX string
	Result   *tried
	// Drafts is set if rules can be tried out; Draft is one, Faults what is wrong
	// with it, and Effect what it would change.
	Drafts bool
	Draft  string
	Faults []string
	Effect string
}

type tried struct {
	Category, Link, Meaning, Owner, Advice string
	Why                                    string
	Facts                                  []number
	// Before, Marked and After are the normalised text, parted at what decided.
	Before, Marked, After string
	Rules                 []ruleRow
}

type ruleRow struct {
	Category, Rule, Place, Rank, Source string
	Weight                              int
	Matches                             []string
	First                               bool
}

func (s *Server) tryPage(ctx context.Context, v *view, r *http.Request) (any, string, error) {
	p := &tryPage{Drafts: s.o.TryRules != nil}
	const title = "Try a reply"
	if r.Method != http.MethodPost {
		return p, title, nil
	}
	r.Body = http.MaxBytesReader(nil, r.Body, 8*maxReply)
	if err := r.ParseForm(); err != nil {
		return nil, "", badRequest{fmt.Errorf("the form cannot be read: %w; a reply has up to %d KB", err, maxReply>>10)}
	}
	// A form sends its lines with CR LF, and what was sent is shown again in it.
	field := func(name string) string { return strings.ReplaceAll(r.PostForm.Get(name), "\r\n", "\n") }
	p.Text, p.MX, p.Draft = field("text"), strings.TrimSpace(field("mx")), field("draft")
	if len(p.Text) > maxReply || len(p.Draft) > maxReply || len(p.MX) > maxName {
		return nil, "", badRequest{fmt.Errorf("a reply or a rule has up to %d KB, and a host name up to %d bytes", maxReply>>10, maxName)}
	}
	rules := s.o.Classifier()
	if p.Drafts && strings.TrimSpace(p.Draft) != "" {
		p.Draft = ruleFile(p.Draft)
		tried, err := s.o.TryRules(p.Draft)
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				p.Faults = append(p.Faults, short(line, 400))
			}
		} else if p.Effect, err = s.effect(ctx, tried); err != nil {
			return nil, "", err
		} else {
			rules = tried
		}
	}
	if strings.TrimSpace(p.Text) != "" && p.Faults == nil {
		p.Result = s.explain(v, rules, p.Text, p.MX)
	}
	p.Text, p.MX, p.Draft = visible(p.Text), short(p.MX, maxName), visible(p.Draft)
	return p, title, nil
}

// ruleFile makes a whole file of a list of rules.
func ruleFile(draft string) string {
	for line := range strings.SplitSeq(draft, "\n") {
		if strings.HasPrefix(line, "rules:") {
			return draft
		}
	}
	return "rules:\n" + draft
}

// effect tells how many of the replies that the rules in force do not understand
// other rules would.
func (s *Server) effect(ctx context.Context, rules *classifier.Classifier) (string, error) {
	all, err := s.o.Ledger.Templates(ctx, ledger.TemplateFilter{Category: event.Unclassified.String()}, 1000)
	if err != nil || len(all) == 0 {
		return "", err
	}
	now, session := s.o.Classifier().NewSession(), rules.NewSession()
	var replies, classified int64
	categories := make(map[string]bool)
	for _, t := range all {
		e := reply(t.Text, "")
		if now.Classify(e); e.Verdict.Category != event.Unclassified {
			continue // by rules that came later
		}
		e = reply(t.Text, "")
		session.Classify(e)
		if replies += t.Attempts; e.Verdict.Category != event.Unclassified {
			classified += t.Attempts
			categories[e.Verdict.Category.String()] = true
		}
	}
	if classified == 0 {
		return "With this rule no reply that was unclassified so far gets a reason.", nil
	}
	return fmt.Sprintf("With this rule %s of %s replies that were unclassified so far get a reason: %s.",
		humanize.Comma(classified), humanize.Comma(replies), strings.Join(slices.Sorted(maps.Keys(categories)), ", ")), nil
}

// visible keeps the lines of a text and the spaces in them, each harmless.
func visible(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = report.CleanPart(l)
	}
	return strings.Join(lines, "\n")
}

func (s *Server) explain(v *view, rules *classifier.Classifier, text, mx string) *tried {
	verdict, x := judge(rules, reply(text, mx))
	t := &tried{
		Category: verdict.Category, Link: v.to(ledger.ByCategory, verdict.Category), Meaning: meaning(verdict.Category), Owner: verdict.Owner,
		Advice: verdict.Advice, Why: short(x.Why, 400),
	}
	fact := func(name, value, meaning string) {
		if value != "" {
			t.Facts = append(t.Facts, number{name, short(value, 200), meaning})
		}
	}
	provider := "not known"
	if x.ProviderBy != "" {
		provider = "known by the " + x.ProviderBy
	}
	fact("provider", verdict.Provider, provider)
	if verdict.Code != 0 || verdict.Enhanced != "" {
		code := ""
		if verdict.Code != 0 {
			code = fmt.Sprint(verdict.Code)
		}
		fact("code", strings.TrimSpace(code+" "+verdict.Enhanced), "basic and enhanced status code")
	}
	fact("persistence", verdict.Persistence, "whether it is worth to try again")
	fact("confidence", humanize.Ftoa(verdict.Confidence), "0 to 1")
	fact("secondary", verdict.Secondary, "a further cause that is named")
	if verdict.Blocklist != nil {
		fact("blocklist", verdict.Blocklist.Name, "")
	}
	if verdict.RetryAfter > 0 {
		fact("retry after", (time.Duration(verdict.RetryAfter) * time.Second).String(), "asked for by the server")
	}
	t.Before = report.CleanPart(x.Normalised)
	if len(x.Evidence) > 0 && len(x.Evidence[0].Matches) > 0 {
		m := x.Evidence[0].Matches[0]
		t.Before, t.Marked, t.After = report.CleanPart(x.Normalised[:m.Start]), report.CleanPart(x.Normalised[m.Start:m.End]), report.CleanPart(x.Normalised[m.End:])
	}
	for i, ev := range x.Evidence[:min(len(x.Evidence), 30)] {
		row := ruleRow{
			Category: ev.Category, Rule: short(ev.Rule, 80), Place: fmt.Sprintf("%s:%d", short(ev.File, 200), ev.Line), Rank: ev.Rank, Weight: ev.Weight,
			Source: short(ev.Source, 300), First: i == 0,
		}
		for _, m := range ev.Matches {
			row.Matches = append(row.Matches, fmt.Sprintf("%s (line %d)", short(m.Text, 200), m.Line))
		}
		t.Rules = append(t.Rules, row)
	}
	return t
}

// clusterRow is one wording of unclassified replies.
type clusterRow struct {
	Template, Count, Providers, First, Last, Draft string
	Samples                                        []string
	Try                                            string // a reply to explain
}

type unclassifiedPage struct {
	Rows    []clusterRow
	Total   string
	Remark  string
	Nothing string
}

// maxClusters is how many clusters are shown or given at the most.
const maxClusters = 50

// clusters groups the wordings of unclassified replies. Their counts are of all
// time.
func (s *Server) clusters(ctx context.Context, provider string) ([]mine.Cluster, error) {
	all, err := s.o.Ledger.Templates(ctx, ledger.TemplateFilter{Category: event.Unclassified.String(), Provider: provider}, 1000)
	if err != nil {
		return nil, err
	}
	m := mine.New()
	s.mining.Lock()
	defer s.mining.Unlock()
	if c := s.o.Classifier(); c != s.mines {
		s.mines, s.miner = c, c.NewSession()
	}
	var template []byte
	for _, t := range all {
		template = s.miner.Template(reply(t.Text, ""), template[:0])
		r := mine.Reply{Template: template, Sample: []byte(t.Text), Provider: t.Provider, Time: t.First * 1e6, Count: uint64(max(t.Attempts-1, 1))}
		m.Add(r)
		if t.Attempts > 1 { // at least two: at the first time and at the last
			r.Time, r.Count = t.Last*1e6, 1
			m.Add(r)
		}
	}
	clusters, _ := m.Clusters()
	return clusters, nil
}

func (s *Server) unclassifiedPage(ctx context.Context, v *view, _ *http.Request) (any, string, error) {
	const title = "Unclassified"
	clusters, err := s.clusters(ctx, v.where[ledger.ByProvider])
	if err != nil {
		return nil, "", err
	}
	p := &unclassifiedPage{}
	if len(clusters) == 0 {
		p.Nothing = "Every reply so far says why, as far as the rules know."
		return p, title, nil
	}
	var total uint64
	for _, c := range clusters {
		total += c.Count
	}
	p.Total = humanize.Comma(int64(total))
	if len(clusters) > maxClusters {
		p.Remark = fmt.Sprintf("the %d most frequent of %d wordings", maxClusters, len(clusters))
		clusters = clusters[:maxClusters]
	}
	for i, c := range clusters {
		r := clusterRow{
			Template: short(c.Template, 600), Count: humanize.Comma(int64(c.Count)), First: moment(c.First / 1e6), Last: moment(c.Last / 1e6),
			Draft: visible(c.Draft(draftID(i))), Samples: shortAll(c.Samples),
		}
		var names []string
		for name := range c.Providers {
			names = append(names, name)
		}
		slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(c.Providers[b], c.Providers[a]), cmp.Compare(a, b)) })
		for k, name := range names[:min(len(names), 4)] {
			names[k] = show(ledger.ByProvider, name)
		}
		r.Providers = strings.Join(names[:min(len(names), 4)], ", ")
		if len(c.Samples) > 0 {
			r.Try = short(c.Samples[0], 2000)
		}
		p.Rows = append(p.Rows, r)
	}
	return p, title, nil
}

// laneRow is one lane in the list of sources.
type laneRow struct {
	Source, Lane, Position, Lag, LastEvent, Read, Err string
	Lines, Malformed, Unmatched, Lost, Folded         string
	Bad                                               bool
}

type sourcesPage struct {
	Rows    []laneRow
	Dead    []deadRow
	DeadAt  string
	Nothing string
}

// deadRow is a line that could not be read.
type deadRow struct{ Time, Source, Place, Error, Line string }

func (s *Server) sourcesPage(ctx context.Context, _ *view, _ *http.Request) (any, string, error) {
	lanes, err := s.lanes(ctx)
	if err != nil {
		return nil, "", err
	}
	p := &sourcesPage{DeadAt: s.o.DeadLetters}
	if len(lanes) == 0 {
		p.Nothing = "No source has been read yet. A path may match no file, or the daemon may not be allowed to read it: its log says so."
	}
	for _, l := range lanes {
		r := laneRow{
			Source: short(l.Source, 100), Lane: short(l.Lane, 300), Position: short(l.Segment, 24) + " @ " + humanize.Comma(l.Offset),
			Lag: "–", LastEvent: "never", Read: "not now", Err: short(l.Error, 300), Bad: l.Error != "",
			Lines: humanize.Comma(l.Lines.Read), Malformed: humanize.Comma(l.Lines.Malformed), Unmatched: humanize.Comma(l.Lines.Unmatched),
			Lost: humanize.Comma(l.Lines.Lost), Folded: humanize.Comma(l.Lines.Folded),
		}
		if l.LastEvent > 0 {
			r.LastEvent = moment(l.LastEvent)
		}
		if l.Reading {
			r.Lag, r.Read = humanize.Comma(l.Lag), moment(l.Read)
		} else if s.o.Shared && !l.committed.IsZero() {
			r.Read = "elsewhere, " + moment(l.committed.Unix())
		}
		p.Rows = append(p.Rows, r)
	}
	if s.o.DeadLetters == "" {
		return p, "Sources", nil
	}
	if p.Dead, err = lastDead(s.o.DeadLetters, 25); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.o.Log.Warn("read the dead letters", "err", err)
	}
	return p, "Sources", nil
}

// lastDead returns the last lines of the dead-letter file, the latest first.
func lastDead(path string, most int) ([]deadRow, error) {
	const window = 256 << 10
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	from := max(info.Size()-window, 0)
	in := bufio.NewScanner(io.NewSectionReader(f, from, window))
	in.Buffer(make([]byte, 64<<10), window)
	var all []deadRow
	for first := true; in.Scan(); first = false {
		if first && from > 0 {
			continue // cut off
		}
		var d struct {
			Time    time.Time `json:"time"`
			Source  string    `json:"source"`
			Lane    string    `json:"lane"`
			Segment string    `json:"segment"`
			Offset  int64     `json:"offset"`
			Record  int       `json:"record"`
			Error   string    `json:"error"`
			Line    string    `json:"line"`
		}
		if json.Unmarshal(in.Bytes(), &d) != nil {
			continue // it is being written
		}
		place := short(d.Lane, 200) + " @ " + humanize.Comma(d.Offset)
		if d.Record > 0 {
			place += ", record " + humanize.Comma(int64(d.Record))
		}
		all = append(all, deadRow{
			Time: moment(d.Time.Unix()), Source: short(d.Source, 100), Place: place,
			Error: short(d.Error, 300), Line: short(d.Line, 500),
		})
	}
	slices.Reverse(all)
	return all[:min(len(all), most)], in.Err()
}

// LaneState is what is known of a lane, from the ledger and from who reads it.
type LaneState struct {
	Source    string `json:"source"`
	Lane      string `json:"lane"`
	Segment   string `json:"segment,omitempty"`
	Offset    int64  `json:"offset"`
	Lag       int64  `json:"lag"`             // in the unit of Offset; 0 if it is not being read
	LastEvent int64  `json:"last_event"`      // event time in Unix seconds; 0 if there was none
	Read      int64  `json:"read,omitempty"`  // when it was last read, in Unix seconds
	Reading   bool   `json:"reading"`         // by this process
	Error     string `json:"error,omitempty"` // why commits fail at present
	Lines     lines  `json:"lines"`

	committed time.Time // by whatever process
}

// lines tells what a lane's lines were.
type lines struct {
	Read      int64 `json:"read"`
	Malformed int64 `json:"malformed"`
	Truncated int64 `json:"truncated"`
	Unmatched int64 `json:"unmatched"`
	Lost      int64 `json:"lost_bytes"`
	Folded    int64 `json:"folded"`
}

// lanes returns all lanes, by source and name.
func (s *Server) lanes(ctx context.Context) ([]LaneState, error) {
	stored, err := s.o.Ledger.Lanes(ctx)
	if err != nil {
		return nil, err
	}
	type key struct{ source, lane string }
	reading := make(map[key]Lane)
	if s.o.Lanes != nil {
		for _, l := range s.o.Lanes() {
			reading[key{l.Source, l.Lane}] = l
		}
	}
	all := make([]LaneState, 0, len(stored))
	for _, l := range stored {
		state := LaneState{
			Source: l.Source, Lane: l.Name, Segment: l.Position.Segment, Offset: l.Position.Offset, LastEvent: l.Last, committed: l.Updated,
			Lines: lines{l.Lines.Read, l.Lines.Malformed, l.Lines.Truncated, l.Lines.Unmatched, l.Lines.Lost, l.Lines.Folded},
		}
		if r, ok := reading[key{l.Source, l.Name}]; ok {
			state.Lag, state.Read, state.Reading, state.Error = r.Lag, r.Read.Unix(), true, r.Err
		}
		all = append(all, state)
	}
	slices.SortFunc(all, func(a, b LaneState) int { return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Lane, b.Lane)) })
	return all, nil
}
