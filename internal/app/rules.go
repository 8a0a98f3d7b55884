package app

import (
	"fmt"
	"sync/atomic"

	"github.com/bouncemeter/bouncemeter/classifier"
	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/config"
	"github.com/bouncemeter/bouncemeter/pipeline"
)

// ruleset is the classification rules in force. A reload swaps them under the
// lanes, which take the new ones with their next event.
type ruleset struct {
	current atomic.Pointer[classifier.Classifier]
}

func newRuleset(c *config.Config) (*ruleset, error) {
	r := &ruleset{}
	compiled, err := compileRules(c)
	if err != nil {
		return nil, err
	}
	r.current.Store(compiled)
	return r, nil
}

// tryRules compiles the rules in force together with the text of a further rule
// file.
func (a *App) tryRules(draft string) (*classifier.Classifier, error) {
	a.reloads.mu.Lock()
	rules := a.o.Config.Rules
	a.reloads.mu.Unlock()
	return classifier.New(classifier.Options{RuleFiles: rules.Files, ProviderFiles: rules.Providers, Draft: draft})
}

func compileRules(c *config.Config) (*classifier.Classifier, error) {
	compiled, err := classifier.New(classifier.Options{RuleFiles: c.Rules.Files, ProviderFiles: c.Rules.Providers})
	if err != nil {
		return nil, fmt.Errorf("read the rules: %w", err)
	}
	return compiled, nil
}

func (r *ruleset) session() pipeline.Classifier {
	c := r.current.Load()
	return &session{rules: r, of: c, session: c.NewSession()}
}

// session is a classifier.Session that follows the ruleset.
type session struct {
	rules   *ruleset
	of      *classifier.Classifier // what session was made from
	session *classifier.Session
}

// Classify implements pipeline.Classifier.
func (s *session) Classify(e *event.Event) {
	if c := s.rules.current.Load(); c != s.of {
		s.of, s.session = c, c.NewSession()
	}
	s.session.Classify(e)
}

// Sample implements pipeline.Classifier.
func (s *session) Sample(e *event.Event, dst []byte) []byte { return s.session.Sample(e, dst) }
