package notify

import (
	"strings"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/ledger/alertjson"
)

// Match says which alerts are meant. Within a field one pattern must match, and
// every field that is given must match. A * in a pattern stands for any text; a
// pattern that begins with ! excludes what the rest of it matches. An alert that
// is not of a single provider, say, has none and matches no pattern but "!…".
type Match struct {
	IDs           []string `yaml:"ids"`
	Rules         []string `yaml:"rules"`
	Kinds         []string `yaml:"kinds"`
	Severities    []string `yaml:"severities"`
	Categories    []string `yaml:"categories"`
	Groups        []string `yaml:"groups"` // of categories
	Providers     []string `yaml:"providers"`
	SenderDomains []string `yaml:"sender_domains"`
	Sources       []string `yaml:"sources"`
	Hosts         []string `yaml:"hosts"`
	Streams       []string `yaml:"streams"`
}

// fields returns the patterns of each field, by the name it has in YAML.
func (m *Match) fields() map[string][]string {
	return map[string][]string{
		"ids": m.IDs, "rules": m.Rules, "kinds": m.Kinds, "severities": m.Severities, "categories": m.Categories, "groups": m.Groups,
		"providers": m.Providers, "sender_domains": m.SenderDomains, "sources": m.Sources, "hosts": m.Hosts, "streams": m.Streams,
	}
}

// Empty reports whether nothing is asked for, so that everything matches.
func (m *Match) Empty() bool {
	for _, patterns := range m.fields() {
		if len(patterns) > 0 {
			return false
		}
	}
	return true
}

// Matches reports whether a is meant.
func (m *Match) Matches(a *alertjson.Alert) bool {
	category := a.Labels["category"]
	if category == "" {
		category = a.Category
	}
	group := ""
	if c, ok := event.CategoryByID(category); ok {
		group = c.Info().Group
	}
	return admits(m.IDs, a.ID) && admits(m.Rules, a.Rule) && admits(m.Kinds, a.Kind) &&
		admits(m.Severities, string(a.Severity)) && admits(m.Categories, category) && admits(m.Groups, group) &&
		admits(m.Providers, a.Labels["provider"]) && admits(m.SenderDomains, a.Labels["sender_domain"]) &&
		admits(m.Sources, a.Labels["source"]) && admits(m.Hosts, a.Labels["host"]) &&
		admits(m.Streams, a.Labels["stream"])
}

// admits reports whether patterns let s through: none excludes it, and one
// includes it unless all exclude.
func admits(patterns []string, s string) bool {
	including, included := false, false
	for _, p := range patterns {
		if out, ok := strings.CutPrefix(p, "!"); ok {
			if glob(out, s) {
				return false
			}
			continue
		}
		including = true
		included = included || s != "" && glob(p, s)
	}
	return included || !including
}

// glob matches s against a pattern in which * stands for any text. Upper and
// lower case are the same.
func glob(pattern, s string) bool {
	parts := strings.Split(strings.ToLower(pattern), "*")
	s = strings.ToLower(s)
	if len(parts) == 1 {
		return s == parts[0]
	}
	s, ok := strings.CutPrefix(s, parts[0])
	if !ok {
		return false
	}
	last := len(parts) - 1
	for _, part := range parts[1:last] {
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return strings.HasSuffix(s, parts[last])
}
