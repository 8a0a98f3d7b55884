package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/alertjson"
)

// receiver is an HTTP server that keeps what it got.
type receiver struct {
	*httptest.Server
	status int
	header http.Header // of answers
	got    []*http.Request
	bodies []string
}

func newReceiver(t *testing.T, start func(http.Handler) *httptest.Server) *receiver {
	r := &receiver{status: http.StatusOK}
	r.Server = start(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			t.Error(err)
		}
		r.got, r.bodies = append(r.got, q), append(r.bodies, string(body))
		for k, v := range r.header {
			w.Header()[k] = v
		}
		w.WriteHeader(r.status)
		answer := "{}"
		if r.status != http.StatusOK {
			answer = "an answer with <!here> in it"
		}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(r.Close)
	return r
}

func file(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func client(t *testing.T, c HTTPConfig) *httpClient {
	t.Helper()
	h, err := newHTTPClient(c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func address(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := parseURL(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestPost(t *testing.T) {
	r := newReceiver(t, httptest.NewServer)
	secret := address(t, r.URL+"/hook/s3cret?token=s3cret")
	basic := client(t, HTTPConfig{User: "ann", PasswordFile: file(t, "pass\n")})
	if err := basic.post(t.Context(), secret, []byte("{}"), nil); err != nil {
		t.Fatal(err)
	}
	if user, password, _ := r.got[0].BasicAuth(); user != "ann" || password != "pass" || r.got[0].Header.Get("Content-Type") != "application/json" {
		t.Errorf("request: %v", r.got[0].Header)
	}
	bearer := client(t, HTTPConfig{BearerFile: file(t, " abc ")})
	if err := bearer.post(t.Context(), secret, []byte("{}"), nil); err != nil {
		t.Fatal(err)
	}
	if got := r.got[1].Header.Get("Authorization"); got != "Bearer abc" {
		t.Errorf("authorization %q", got)
	}

	r.header = http.Header{"Retry-After": {"90"}}
	for status, want := range map[int]struct {
		refused bool
		class   string
	}{
		400: {true, "refused"}, 413: {true, "refused"}, 422: {true, "refused"},
		401: {false, "status"}, 404: {false, "status"}, 429: {false, "status"}, 500: {false, "status"}, 503: {false, "status"},
	} {
		r.status = status
		err := basic.post(t.Context(), secret, []byte("{}"), nil)
		if err == nil || isRefused(err) != want.refused || class(err) != want.class || retryAfter(err) != 90*time.Second {
			t.Errorf("%d: %v, class %s, again after %v", status, err, class(err), retryAfter(err))
		}
		if err != nil && (strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "<!here>")) {
			t.Errorf("the error shows too much: %v", err)
		}
	}
	r.Close()
	err := basic.post(t.Context(), secret, []byte("{}"), nil)
	if class(err) != "connection" || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("without a server: %v", err)
	}
}

func TestRedirects(t *testing.T) {
	other := newReceiver(t, httptest.NewServer)
	r := newReceiver(t, httptest.NewServer)
	r.status, r.header = http.StatusTemporaryRedirect, http.Header{"Location": {other.URL + "/"}}
	if err := client(t, HTTPConfig{}).post(t.Context(), address(t, r.URL), []byte("{}"), nil); err == nil || !strings.Contains(err.Error(), "redirects to another place") {
		t.Errorf("redirected to another host: %v", err)
	}
	if len(other.got) != 0 {
		t.Error("what was meant for one host reached another")
	}
}

func TestTLS(t *testing.T) {
	r := newReceiver(t, httptest.NewTLSServer)
	r.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	ca := file(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate().Raw})))
	if err := client(t, HTTPConfig{CAFile: ca}).post(t.Context(), address(t, r.URL), nil, nil); err != nil {
		t.Error(err)
	}
	if err := client(t, HTTPConfig{}).post(t.Context(), address(t, r.URL), nil, nil); class(err) != "tls" {
		t.Errorf("a certificate of nobody's: %v, class %s", err, class(err))
	}
	if err := client(t, HTTPConfig{CAFile: ca, ServerName: "other.test"}).post(t.Context(), address(t, r.URL), nil, nil); class(err) != "tls" {
		t.Errorf("another name: %v, class %s", err, class(err))
	}
}

func TestHTTPConfigFaults(t *testing.T) {
	for want, c := range map[string]HTTPConfig{
		"set both cert_file and key_file":     {CertFile: "x"},
		"needs both user and password_file":   {User: "ann"},
		"there is a bearer_file, too":         {User: "ann", PasswordFile: "x", BearerFile: "y"},
		"no such file":                        {CAFile: filepath.Join(t.TempDir(), "none")},
		"there is no certificate in":          {CAFile: file(t, "x")},
		"a login needs both user and passwor": {PasswordFile: "x"},
	} {
		if _, err := newHTTPClient(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", c, err, want)
		}
	}
	for _, bad := range []string{"", "host:9093", "ftp://host.test", "https://", "https://ann:s3cret@host.test/", "http://%zz"} {
		if _, err := parseURL(bad); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// posted returns the last alerts that an Alertmanager got, by alert name and
// severity.
func posted(t *testing.T, r *receiver) map[string]amAlert {
	t.Helper()
	if len(r.bodies) == 0 {
		return nil
	}
	var all []amAlert
	if err := json.Unmarshal([]byte(r.bodies[len(r.bodies)-1]), &all); err != nil {
		t.Fatal(err)
	}
	byName := make(map[string]amAlert)
	for _, a := range all {
		byName[a.Labels["alertname"]+" "+a.Labels["severity"]] = a
	}
	return byName
}

func TestAlertmanager(t *testing.T) {
	one, two := newReceiver(t, httptest.NewServer), newReceiver(t, httptest.NewServer)
	a, err := NewAlertmanager(AlertmanagerConfig{URLs: []string{one.URL, two.URL + "/prefix/"}, Link: "https://bm.example"})
	if err != nil {
		t.Fatal(err)
	}
	if a.Every() != time.Minute {
		t.Errorf("sent again every %v", a.Every())
	}
	now := noon.Add(10 * time.Minute)
	tell := func(items []Item, open ...alertjson.Alert) {
		t.Helper()
		n := &News{Items: items, Now: now}
		for _, x := range open {
			n.Open = append(n.Open, Item{Alert: x})
		}
		if err := a.Tell(t.Context(), n); err != nil {
			t.Error(err)
		}
	}
	tell(nil)
	if len(one.got) != 0 {
		t.Error("something was sent without alerts")
	}
	firing := spf(alertjson.Firing)
	tell([]Item{{Alert: firing}}, firing)
	if one.got[0].URL.Path != "/api/v2/alerts" || two.got[0].URL.Path != "/prefix/api/v2/alerts" {
		t.Errorf("posted to %s and %s", one.got[0].URL, two.got[0].URL)
	}
	want := amAlert{
		Labels: map[string]string{
			"alertname": "authentication", "job": "bouncemeter", "kind": "ratio", "severity": "critical", "provider": "gmail", "sender_domain": "shop.example",
		},
		Annotations: map[string]string{
			"id": firing.ID, "incident": firing.ID, "category": "spf_failed", "summary": firing.Title, "description": firing.Summary, "advice": firing.Advice,
			"where": "host mx1.example.com (98% of the excess)", "unchanged": "gmail from 3 other domains",
			"replies":  "550 5.7.26 <" + joiner + "b>@" + joiner + "channel<" + joiner + "/b> SPF [192.0.2.1] failed\n[31mred",
			"failures": "340", "attempts": "2833", "ratio": "12%", "usual": "0.10%", "excess": "337",
		},
		StartsAt: noon, EndsAt: now.Add(4 * time.Minute), GeneratorURL: "https://bm.example/alerts/" + firing.ID,
	}
	if diff := cmp.Diff(map[string]amAlert{"authentication critical": want}, posted(t, two)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	// A member that is down does not keep the other from being told.
	one.status = http.StatusServiceUnavailable
	now = now.Add(time.Minute)
	tell(nil, firing)
	if got := posted(t, two)["authentication critical"]; !got.EndsAt.Equal(now.Add(4*time.Minute)) || !got.StartsAt.Equal(noon) {
		t.Errorf("sent again as %v", got)
	}
	two.status = http.StatusServiceUnavailable
	if err := a.Tell(t.Context(), &News{Now: now, Open: []Item{{Alert: firing}}}); err == nil || class(err) != "status" {
		t.Errorf("nobody took it: %v", err)
	}
	one.status, two.status = 200, 200

	// A severity that changes is another alert to Alertmanager: the old one ends.
	firing.Severity = alertjson.Warning
	now = now.Add(time.Minute)
	tell([]Item{{Alert: firing}}, firing)
	got := posted(t, one)
	if len(got) != 2 || !got["authentication critical"].EndsAt.Equal(now) || !got["authentication warning"].EndsAt.Equal(now.Add(4*time.Minute)) {
		t.Errorf("severity changed: %v", got)
	}

	// The end is told for a quarter of an hour.
	over := spf(alertjson.Resolved)
	over.Severity = alertjson.Warning
	now = over.Resolved.Add(10 * time.Second)
	tell([]Item{{Alert: over}})
	for range 14 {
		now = now.Add(time.Minute)
		tell(nil)
		if got := posted(t, one)["authentication warning"]; !got.EndsAt.Equal(over.Resolved) {
			t.Fatalf("end %v, want %v", got.EndsAt, over.Resolved)
		}
	}
	posts := len(one.got)
	now = now.Add(2 * time.Minute)
	tell(nil)
	if len(one.got) != posts {
		t.Error("the end is still told")
	}
}

// Something that begins again under the same labels is not over.
func TestAlertmanagerTellsOpenRatherThanOver(t *testing.T) {
	r := newReceiver(t, httptest.NewServer)
	a, err := NewAlertmanager(AlertmanagerConfig{URLs: []string{r.URL}})
	if err != nil {
		t.Fatal(err)
	}
	over, again := spf(alertjson.Resolved), spf(alertjson.Firing)
	again.ID = "2"
	now := noon.Add(time.Hour)
	for _, n := range []*News{
		{Now: now, Items: []Item{{Alert: over}}},
		{Now: now.Add(time.Minute), Items: []Item{{Alert: again}}, Open: []Item{{Alert: again}}},
	} {
		if err := a.Tell(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	if got := posted(t, r); len(got) != 1 || !got["authentication critical"].EndsAt.After(now.Add(time.Minute)) {
		t.Errorf("%v", got)
	}
}

func TestWebhook(t *testing.T) {
	r := newReceiver(t, httptest.NewServer)
	key := []byte("0123456789abcdef01234567")
	w, err := NewWebhook(WebhookConfig{
		URLFile: file(t, r.URL+"/hook\n"), SecretFile: file(t, "whsec_"+base64.StdEncoding.EncodeToString(key)), Name: "hook", Link: "https://bm.example",
	})
	if err != nil {
		t.Fatal(err)
	}
	over := spf(alertjson.Resolved)
	over.Rule = "content"
	n := &News{Items: []Item{{Alert: spf(alertjson.Firing)}, {Alert: over}}}
	for range 2 {
		if err := w.Tell(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	var m webhookMessage
	if err := json.Unmarshal([]byte(r.bodies[0]), &m); err != nil {
		t.Fatal(err)
	}
	if m.Version != "4" || m.Status != "firing" || m.Receiver != "hook" || m.ExternalURL != "https://bm.example" || len(m.Alerts) != 2 ||
		m.Alerts[0].Status != "firing" || !m.Alerts[0].EndsAt.IsZero() || m.Alerts[1].Status != "resolved" || !m.Alerts[1].EndsAt.Equal(over.Resolved) ||
		m.Alerts[0].Fingerprint == m.Alerts[1].Fingerprint || !strings.HasPrefix(m.Title, "[critical] SPF failures") || m.Text == "" {
		t.Errorf("message: %+v", m)
	}
	if diff := cmp.Diff(map[string]string{"job": "bouncemeter", "kind": "ratio", "provider": "gmail", "sender_domain": "shop.example", "severity": "critical"}, m.CommonLabels); diff != "" {
		t.Errorf("common labels (-want +got):\n%s", diff)
	}
	// As a receiver checks it by the specification of Standard Webhooks.
	h := r.got[0].Header
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(h.Get("webhook-id") + "." + h.Get("webhook-timestamp") + "." + r.bodies[0]))
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); h.Get("webhook-signature") != want {
		t.Errorf("signature %q, want %q", h.Get("webhook-signature"), want)
	}
	id := func(i int) string { return r.got[i].Header.Get("Idempotency-Key") }
	if id(0) == "" || id(0) != id(1) || id(0) != h.Get("webhook-id") {
		t.Errorf("ids %q and %q for the same news", id(0), id(1))
	}
	n.Items = n.Items[:1]
	if err := w.Tell(t.Context(), n); err != nil || id(2) == id(0) {
		t.Errorf("id %q for other news; %v", id(2), err)
	}
	for _, c := range []WebhookConfig{{}, {URL: "x"}, {URL: r.URL, URLFile: "y"}} {
		if _, err := NewWebhook(c); err == nil {
			t.Errorf("%+v: no fault", c)
		}
	}
}

func TestShoutrrr(t *testing.T) {
	r := newReceiver(t, httptest.NewServer)
	host := strings.TrimPrefix(r.URL, "http://")
	s, err := NewShoutrrr(ShoutrrrConfig{Name: "ops", URLFile: file(t, "ntfy://user:s3cret@"+host+"/topic?scheme=http\n")})
	if err != nil {
		t.Fatal(err)
	}
	n := &News{Items: []Item{{Alert: spf(alertjson.Firing)}}}
	if err := s.Tell(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if got := r.got[0].Header.Get("Title"); !strings.HasPrefix(got, "[critical] SPF failures") {
		t.Errorf("title %q", got)
	}
	if !strings.Contains(r.bodies[0], "340 of 2833") || strings.Contains(r.bodies[0], "@channel") {
		t.Errorf("body %q", r.bodies[0])
	}
	r.status = http.StatusForbidden
	if err := s.Tell(t.Context(), n); class(err) != "status" || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("forbidden: %v, class %s", err, class(err))
	}
	r.Close()
	if err := s.Tell(t.Context(), n); class(err) != "connection" || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("without a server: %v, class %s", err, class(err))
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Tell(ended, n); err == nil {
		t.Error("sent although the time was over")
	}
	for _, bad := range []string{"", "not a url", "nosuch://s3cret", "slack://s3cret", "telegram://s3cret@telegram?chats=1&parsemode=MarkdownV2", "ntfy://a\nntfy://b"} {
		if _, err := NewShoutrrr(ShoutrrrConfig{URLFile: file(t, bad)}); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestShoutrrrFormats(t *testing.T) {
	for raw, want := range map[string][2]Format{
		"slack://hook:AAAAAAAAA-BBBBBBBBB-123456789123456789123456@webhook":                          {Slack, Slack},
		"discord://token@123456789012345678":                                                         {Markdown, Markdown},
		"telegram://110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw0@telegram?chats=@ch":                {Plain, Plain},
		"telegram://110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw0@telegram?chats=@ch&parsemode=HTML": {HTML, Plain},
		"smtp://host.test:25/?from=a@example.com&to=b@example.com":                                   {Plain, Plain},
		"smtp://host.test:25/?from=a@example.com&to=b@example.com&usehtml=yes":                       {HTML, Plain},
		"mattermost://host.test/token":                                                               {Markdown, Markdown},
	} {
		s, err := NewShoutrrr(ShoutrrrConfig{URLFile: file(t, raw)})
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if got := [2]Format{s.template.textFormat, s.template.titleFormat}; got != want {
			t.Errorf("%s: formats %v, want %v", raw, got, want)
		}
	}
}

func TestFile(t *testing.T) {
	l := newMemory()
	l.add("a", alertjson.Firing)
	l.add("a", alertjson.Resolved)
	name := filepath.Join(t.TempDir(), "alerts.jsonl")
	f, err := NewFile(name)
	if err != nil {
		t.Fatal(err)
	}
	read := func() []string {
		t.Helper()
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	}
	if err := f.Record(t.Context(), l.changes); err != nil {
		t.Fatal(err)
	}
	got := read()
	if len(got) != 2 {
		t.Fatalf("%d lines", len(got))
	}
	for i, line := range got {
		var r struct {
			V, Seq int
			Time   time.Time
			Alert  alertjson.Alert
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil || r.V != 1 || r.Seq != i+1 || r.Alert.ID != "a" || r.Time.Unix() != l.changes[i].Time {
			t.Errorf("line %s: %v", line, err)
		}
	}
	// A line that a crash has cut does not spoil the next one.
	if err := os.Truncate(name, 100); err != nil {
		t.Fatal(err)
	}
	if err := f.Record(t.Context(), l.changes); err != nil {
		t.Fatal(err)
	}
	if after := read(); len(after) != 3 || after[1] != got[0] || after[2] != got[1] {
		t.Errorf("after a crash: %q", after)
	}
	// Rotation by rename.
	if err := os.Rename(name, name+".1"); err != nil {
		t.Fatal(err)
	}
	if err := f.Record(t.Context(), l.changes[:1]); err != nil {
		t.Fatal(err)
	}
	if after := read(); len(after) != 1 {
		t.Errorf("after rotation: %q", after)
	}
	if err := (&File{filepath.Join(name, "x")}).Record(t.Context(), l.changes); err == nil {
		t.Error("no error for a path below a file")
	}
}

func TestLog(t *testing.T) {
	var b strings.Builder
	l := newMemory()
	l.add("a", alertjson.Firing, func(a *alertjson.Alert) { a.Title = "two\nlines" })
	l.add("a", alertjson.Resolved)
	if err := NewLog(slog.New(slog.NewTextHandler(&b, nil))).Record(t.Context(), l.changes); err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(got) != 2 || !strings.Contains(got[0], `level=WARN msg=alert state=firing severity=warning rule=authentication id=a title="two lines"`) || !strings.Contains(got[1], "level=INFO") {
		t.Errorf("%q", got)
	}
}

// topic fails on the call whose number is fail.
type topic struct {
	calls, fail int
	got         []string
}

func (k *topic) Produce(_ context.Context, key, value []byte) error {
	if k.calls++; k.calls == k.fail {
		return errors.New("no leader")
	}
	var r record
	if err := json.Unmarshal(value, &r); err != nil {
		return err
	}
	k.got = append(k.got, string(key))
	return nil
}

func TestKafka(t *testing.T) {
	l := newMemory()
	l.add("a", alertjson.Firing)
	l.add("b", alertjson.Firing)
	k := &topic{fail: 2}
	r := NewKafka(k)
	if err := r.Record(t.Context(), l.changes); err == nil {
		t.Error("a failure was not told")
	}
	if err := r.Record(t.Context(), l.changes); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"a", "a", "b"}, k.got); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if err := r.Record(t.Context(), []ledger.Alert{{ID: "c", Body: []byte("{")}}); err != nil || k.got[3] != "c" {
		t.Errorf("a broken body: %v, %v", k.got, err)
	}
}
