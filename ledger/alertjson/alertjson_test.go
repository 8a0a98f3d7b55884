package alertjson_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/alertjson"
	"github.com/bouncemeter/bouncemeter/pipeline/spike"
)

// fields returns the JSON names of a struct's fields, those of structs in it too.
func fields(t reflect.Type, prefix string, into map[string]bool) {
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t.PkgPath() == "time" {
		return
	}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		into[prefix+name] = true
		fields(t.Field(i).Type, prefix+name+".", into)
	}
}

// The reader knows what the detector of this version writes, and nothing else.
func TestReadsWhatIsWritten(t *testing.T) {
	written, read := make(map[string]bool), make(map[string]bool)
	fields(reflect.TypeFor[spike.Alert](), "", written)
	fields(reflect.TypeFor[alertjson.Alert](), "", read)
	if !reflect.DeepEqual(written, read) {
		t.Errorf("written %v\nread %v", written, read)
	}
	body, err := json.Marshal(spike.Alert{Rule: "r", State: spike.Resolved, Severity: spike.Critical, Labels: map[spike.Dimension]string{spike.Provider: "gmail"}})
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(new(alertjson.Alert)); err != nil {
		t.Error(err)
	}
	a, err := alertjson.Decode(&ledger.Alert{ID: "x", Body: body})
	if err != nil || a.ID != "x" || a.State != alertjson.Resolved || a.Severity.Rank() != alertjson.Critical.Rank() || a.Labels["provider"] != "gmail" {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestRank(t *testing.T) {
	if alertjson.Severity("catastrophe").Rank() <= alertjson.Critical.Rank() || alertjson.Critical.Rank() <= alertjson.Ticket.Rank() {
		t.Error("an unknown severity is not above all")
	}
}
