package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/bouncemeter/bouncemeter/sources/webhook"
)

// Every kind that can be written has a row, and every setting is in one.
func TestKindsAreWhole(t *testing.T) {
	for _, test := range []struct {
		of reflect.Type
		kinds
	}{
		{reflect.TypeFor[Source](), sourceKinds}, {reflect.TypeFor[Sink](), sinkKinds}, {reflect.TypeFor[Notifier](), notifierKinds},
	} {
		settings := make(map[string]bool)
		for _, f := range reflect.VisibleFields(test.of) {
			key := f.Tag.Get("yaml")
			if key == "-" {
				continue
			}
			settings[key] = true
			if len(test.has(key)) == 0 {
				t.Errorf("%s.%s: no kind has the setting %s", test.of, f.Name, key)
			}
			if key == "kind" {
				words := strings.Split(f.Tag.Get("enum"), ",")
				if slices.Sort(words); !slices.Equal(words, test.names()) {
					t.Errorf("%s.Kind may be %v, and there are rows for %v", test.of, words, test.names())
				}
			}
		}
		for kind, keys := range test.kinds {
			for _, key := range keys {
				if !settings[key] {
					t.Errorf("%s: kind %q has %q, which is no setting", test.of, kind, key)
				}
				if kind != "" && slices.Contains(test.kinds[""], key) {
					t.Errorf("%s: kind %q has %q, which all have", test.of, kind, key)
				}
			}
		}
	}
}

// Every way to verify that there is can be written.
func TestSchemesAreThoseOfWebhook(t *testing.T) {
	f, _ := reflect.TypeFor[Source]().FieldByName("Verify")
	if words := strings.Split(f.Tag.Get("enum"), ","); !slices.Equal(words, webhook.Schemes()) {
		t.Errorf("verify may be %v, and package webhook has %v", words, webhook.Schemes())
	}
}
