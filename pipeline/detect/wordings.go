package detect

import (
	"context"
	"slices"
	"time"

	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/pipeline/spike"
)

const (
	// hearEvery is how often the ledger is asked for wordings.
	hearEvery = time.Minute
	// mostHeard is how many of them it is asked for.
	mostHeard = 20_000
)

// hearing finds out which wordings have come since it looked last. The ledger
// keeps how often each was heard in all, not when: so what counts for a minute
// depends on when it was asked, unlike everything else that is judged. Which
// wording is new does not.
type hearing struct {
	asked time.Time
	heard map[heardKey]int64
}

// heardKey is a wording, as the ledger tells them apart.
type heardKey struct {
	hash               uint64
	category, provider string
}

// hear gives the detector the wordings that came since it was called last, if a
// rule is about them. The first time it gives all, so that they are known.
func (r *Runner) hear(ctx context.Context, now time.Time) error {
	if !r.wordings || now.Sub(r.hearing.asked) < hearEvery {
		return nil
	}
	all, err := r.ledger.Templates(ctx, ledger.TemplateFilter{}, mostHeard)
	if err != nil {
		return err
	}
	r.detector.Hear(r.hearing.since(all, r.position()))
	r.hearing.asked = now
	return nil
}

// since returns what has been heard since the last call.
func (h *hearing) since(all []ledger.Template, position int64) (news []spike.Heard) {
	began := h.heard == nil
	before := h.heard
	h.heard = make(map[heardKey]int64, len(all))
	for _, t := range all {
		k := heardKey{t.Hash, t.Category, t.Provider}
		h.heard[k] = t.Attempts
		n := t.Attempts - before[k]
		if began && t.First < position-3600 {
			n = 1 // to be known, not to be counted
		}
		if n > 0 {
			news = append(news, spike.Heard{Provider: t.Provider, Text: t.Text, Attempts: n, First: t.First})
		}
	}
	return news
}

// aboutWordings reports whether a rule needs wordings.
func aboutWordings(rules []spike.Rule) bool {
	return slices.ContainsFunc(rules, func(r spike.Rule) bool { return r.Kind == spike.Template })
}
