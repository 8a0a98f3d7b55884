package config

import (
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/sources/dialect"
)

// Every field that a mapping can have and every outcome has a setting.
func TestMappingIsWhole(t *testing.T) {
	if got, want := keysOf(reflect.TypeFor[Fields]()), dialect.MappedFields(); !cmp.Equal(sorted(got), sorted(want)) {
		t.Errorf("fields %v, want %v", got, want)
	}
	want := []string{dialect.Ignored}
	for _, o := range event.Outcomes {
		want = append(want, o.String())
	}
	if got := keysOf(reflect.TypeFor[Outcomes]()); !cmp.Equal(sorted(got), sorted(want)) {
		t.Errorf("outcomes %v, want %v", got, want)
	}
	if n := len((&Outcomes{}).all()); n != len(want) {
		t.Errorf("%d lists of words", n)
	}
}

func sorted(s []string) []string { s = slices.Clone(s); slices.Sort(s); return s }

func TestMapping(t *testing.T) {
	c, err := Parse("c.yaml", []byte(`sources:
  - name: gw
    kind: tail
    paths: [/var/log/gw.csv]
    dialect: csv
    fields: {time: When, outcome: Result, recipient: To}
    outcomes: {delivered: [S], ignored: ["*"]}
    time_format: "%F %T"
    columns: [When, Result, To]
    separator: tab
`), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &c.Sources[0]
	m, err := s.Mapping()
	if err != nil {
		t.Fatal(err)
	}
	want := dialect.Mapping{
		Fields:     map[string]string{"time": "When", "outcome": "Result", "recipient": "To"},
		Outcomes:   map[string]string{"S": "delivered", "*": "ignored"},
		TimeFormat: "%F %T", Columns: []string{"When", "Result", "To"}, Separator: '\t',
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	p, err := s.Parser(nil)
	if err != nil {
		t.Fatal(err)
	}
	events, err := p.Parse([]byte("2026-01-12 04:01:07\tS\tann@x.example"), nil)
	if err != nil || len(events) != 1 || events[0].Outcome != event.Delivered {
		t.Errorf("%+v, %v", events, err)
	}
}
