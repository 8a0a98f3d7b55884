package webhook

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/sources/spool"
)

// running is a source that receives, and what it has stored so far.
type running struct {
	*Source
	t      *testing.T
	lane   chan *spool.Lane
	stop   func() error
	opened *spool.Lane
}

func config(t *testing.T) Config {
	return Config{
		Listen: "127.0.0.1:0", Path: "/events", Verify: None,
		Spool: spool.Config{Dir: t.TempDir()}, Log: slog.New(slog.DiscardHandler),
	}
}

// start runs a source until its hub listens.
func start(t *testing.T, c Config) *running {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{Source: s, t: t, lane: make(chan *spool.Lane, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- s.Run(ctx, func(ctx context.Context, l *spool.Lane) error {
			if err := l.Open(ctx, event.Position{}); err != nil {
				return err
			}
			r.lane <- l
			<-ctx.Done()
			return l.Close()
		})
	}()
	r.opened = <-r.lane
	for s.config.Hub.Address(c.Listen) == nil {
		select {
		case err := <-done:
			t.Fatalf("it ended: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	r.stop = func() error { cancel(); return <-done }
	t.Cleanup(cancel)
	return r
}

func (r *running) url() string {
	return "http://" + r.config.Hub.Address(r.config.Listen).String() + r.config.Path
}

// post sends a request and returns the status of the answer.
func (r *running) post(body string, headers ...string) int {
	r.t.Helper()
	q, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.url(), strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		q.Header.Set(headers[i], headers[i+1])
	}
	return r.do(q)
}

func (r *running) do(q *http.Request) int {
	r.t.Helper()
	answer, err := http.DefaultClient.Do(q)
	if err != nil {
		r.t.Fatal(err)
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body)
	if answer.StatusCode == http.StatusServiceUnavailable && answer.Header.Get("Retry-After") == "" {
		r.t.Error("503 without Retry-After")
	}
	return answer.StatusCode
}

// stored returns the next n requests that wait to be counted.
func (r *running) stored(n int) (all []string) {
	r.t.Helper()
	var b event.Batch
	for len(all) < n {
		if err := r.opened.Read(r.t.Context(), &b); err != nil {
			r.t.Fatal(err)
		}
		if len(b.Lines) == 0 {
			r.t.Fatalf("only %q were stored", all)
		}
		for _, l := range b.Lines {
			all = append(all, string(l.Text))
		}
	}
	if len(all) > n || b.Lag > 0 {
		r.t.Fatalf("more than %d were stored: %q", n, all)
	}
	return all
}

func (r *running) expect(what string, got, want int) {
	r.t.Helper()
	if got != want {
		r.t.Errorf("%s: answered with %d, want %d", what, got, want)
	}
}

func TestStoredBeforeTheAnswer(t *testing.T) {
	c := config(t)
	r := start(t, c)
	r.expect("an event", r.post(`{"a":1}`), 200)
	r.expect("lines", r.post("{\n\"a\": 2\n}\n"), 200)
	r.expect("nothing", r.post(" \n"), 200)
	if got := r.stored(2); got[0] != `{"a":1}` || strings.TrimSpace(got[1]) != `{ "a": 2 }` {
		t.Errorf("stored %q", got)
	}
	q, err := http.NewRequestWithContext(t.Context(), http.MethodHead, r.url(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.expect("HEAD", r.do(q), 200)
	q.Method = http.MethodGet
	r.expect("GET", r.do(q), 405)
	q.URL.Path = "/other"
	r.expect("another path", r.do(q), 404)
	if got := r.Stats(); got.Accepted != 2 || got.Ignored != 1 || got.Bytes != 7+11 {
		t.Errorf("counted %+v", got)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	// It is all there again where the ledger has none of it.
	again := start(t, c)
	again.expect("after a restart", again.post("3"), 200)
	if got := again.stored(3); got[2] != "3" {
		t.Errorf("after a restart %q", got)
	}
	if err := again.stop(); err != nil {
		t.Fatal(err)
	}
}

func TestBoundsOfBodies(t *testing.T) {
	c := config(t)
	c.MaxBody = 100_000
	r := start(t, c)
	whole := strings.Repeat("x", c.MaxBody)
	r.expect("the largest", r.post(whole), 200)
	r.expect("too large", r.post(whole+"x"), 413)
	pack := func(n int64) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = io.CopyN(z, zeros{}, n)
		_ = z.Close()
		return b.String()
	}
	r.expect("packed", r.post(pack(100_000), "Content-Encoding", "gzip"), 200)
	bomb := pack(64 << 20)
	if len(bomb) > c.MaxBody {
		t.Fatalf("the bomb has %d bytes", len(bomb))
	}
	r.expect("a bomb", r.post(bomb, "Content-Encoding", "gzip"), 413)
	r.expect("no gzip", r.post("plain", "Content-Encoding", "gzip"), 400)
	r.expect("cut gzip", r.post(pack(1000)[:20], "Content-Encoding", "gzip"), 400)
	r.expect("another encoding", r.post("x", "Content-Encoding", "br"), 415)
	if held := r.held.Load(); held != 0 {
		t.Errorf("%d bytes are held by no request", held)
	}
	r.held.Store(inFlight)
	r.expect("no memory", r.post("x"), 503)
	r.held.Store(0)
	if got := r.stored(2); len(got[0]) != c.MaxBody || len(got[1]) != 100_000 {
		t.Errorf("stored %d and %d bytes", len(got[0]), len(got[1]))
	}
	if got := r.Stats(); got != (Stats{Accepted: 2, Bytes: 200_000, TooLarge: 2, Refused: 3, Unavailable: 1}) {
		t.Errorf("counted %+v", got)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/events", strings.NewReader("x")))
	r.expect("when it has ended", w.Code, 503)
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestFullSpool(t *testing.T) {
	c := config(t)
	c.Spool.MaxBytes = 1000
	r := start(t, c)
	body := strings.Repeat("x", 400)
	r.expect("one", r.post(body), 200)
	r.expect("two", r.post(body), 200)
	r.expect("three", r.post(body), 503)
	r.stored(2)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}

func TestSourcesShareAnAddress(t *testing.T) {
	hub := NewHub(slog.New(slog.DiscardHandler))
	a, b := config(t), config(t)
	a.Hub, b.Hub, b.Path = hub, hub, "/others"
	one, two := start(t, a), start(t, b)
	one.expect("one", one.post("1"), 200)
	two.expect("two", two.post("2"), 200)
	if err := one.stop(); err != nil {
		t.Fatal(err)
	}
	two.expect("two, without one", two.post("3"), 200)
	if got := two.stored(2); got[0] != "2" || got[1] != "3" {
		t.Errorf("two has %q", got)
	}
	c := config(t)
	c.Hub, c.Path = hub, b.Path
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Run(t.Context(), func(ctx context.Context, l *spool.Lane) error {
		defer l.Close()
		if err := l.Open(ctx, event.Position{}); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "another source") {
		t.Errorf("two sources with one path: %v", err)
	}
	if err := two.stop(); err != nil {
		t.Fatal(err)
	}
	if hub.Address(b.Listen) != nil {
		t.Error("it listens for nobody")
	}
}

func TestConfigSaysWhatIsMissing(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"is unknown":                func(c *Config) { c.Verify = "magic" },
		"needs a key":               func(c *Config) { c.Verify = Mailgun },
		"is empty":                  func(c *Config) { c.Verify, c.Secrets = Token, []string{"a", ""} },
		"needs a user":              func(c *Config) { c.Verify, c.Secrets = Basic, []string{"a"} },
		"neither PEM nor base64":    func(c *Config) { c.Verify, c.Secrets = SendGrid, []string{"%"} },
		"which is not what signs":   func(c *Config) { c.Verify, c.Secrets = Postal, []string{ecKey(t).public} },
		"signs the URL":             func(c *Config) { c.Verify, c.Secrets = Mandrill, []string{"a"} },
		"ARNs of the topics":        func(c *Config) { c.Verify = SNS },
		"is not the path of a URL":  func(c *Config) { c.Path = "events" },
		"bytes are too many":        func(c *Config) { c.MaxBody = 1 << 30 },
		"the key of SendGrid: asn1": func(c *Config) { c.Verify, c.Secrets = SendGrid, []string{"AAAA"} },
	} {
		c := config(t)
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("want %q: %v", name, err)
		}
	}
	for _, scheme := range Schemes() {
		if scheme != None && ByDialect(map[string]string{SNS: "ses", Basic: "postmark", Token: "brevo"}[scheme]+map[bool]string{true: scheme}[scheme != SNS && scheme != Basic && scheme != Token]) != scheme {
			t.Errorf("no dialect has scheme %s", scheme)
		}
	}
}

func TestBasic(t *testing.T) {
	c := config(t)
	c.Verify, c.User, c.Secrets = Basic, "events", []string{"old", "new"}
	r := start(t, c)
	login := func(user, password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	}
	r.expect("right", r.post("1", "Authorization", login("events", "new")), 200)
	r.expect("right, too", r.post("2", "Authorization", login("events", "old")), 200)
	r.expect("password", r.post("x", "Authorization", login("events", "newer")), 401)
	r.expect("user", r.post("x", "Authorization", login("event", "new")), 401)
	r.expect("nothing", r.post("x"), 401)
	r.stored(2)
}

func TestToken(t *testing.T) {
	c := config(t)
	c.Verify, c.Secrets = Token, []string{"secret"}
	r := start(t, c)
	r.expect("right", r.post("1", "Authorization", "bearer secret"), 200)
	r.expect("wrong", r.post("x", "Authorization", "Bearer Secret"), 401)
	r.expect("none", r.post("x", "Authorization", "Bearer "), 401)
	r.expect("no header", r.post("x"), 401)
	r.stored(1)
}

type key struct {
	public string // base64 of DER
	sign   func(kind crypto.Hash, sum []byte) string
	signer crypto.Signer
}

func newKey(t *testing.T, signer crypto.Signer, err error) key {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	return key{base64.StdEncoding.EncodeToString(der), func(kind crypto.Hash, sum []byte) string {
		s, err := signer.Sign(rand.Reader, sum, kind)
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(s)
	}, signer}
}

func ecKey(t *testing.T) key {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return newKey(t, k, err)
}

func rsaKey(t *testing.T) key {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	return newKey(t, k, err)
}

func TestSendGrid(t *testing.T) {
	k := ecKey(t)
	c := config(t)
	c.Verify, c.Secrets = SendGrid, []string{k.public}
	r := start(t, c)
	post := func(body, signed string, age time.Duration) int {
		when := strconv.FormatInt(time.Now().Add(-age).Unix(), 10)
		sum := sha256.Sum256([]byte(when + signed))
		return r.post(body, sendgridTimestamp, when, sendgridSignature, k.sign(crypto.SHA256, sum[:]))
	}
	const body = `[{"event":"bounce"}]` + "\r\n"
	r.expect("signed", post(body, body, 0), 200)
	r.expect("sent again an hour later", post(body, body, time.Hour), 200)
	r.expect("changed", post(body+" ", body, 0), 401)
	r.expect("an old one", post(body, body, DefaultMaxAge+time.Minute), 401)
	r.expect("of tomorrow", post(body, body, -24*time.Hour), 401)
	r.expect("unsigned", r.post(body), 401)
	r.expect("no base64", r.post(body, sendgridTimestamp, "1", sendgridSignature, "!"), 401)
	other := ecKey(t)
	when := strconv.FormatInt(time.Now().Unix(), 10)
	sum := sha256.Sum256([]byte(when + body))
	r.expect("another key", r.post(body, sendgridTimestamp, when, sendgridSignature, other.sign(crypto.SHA256, sum[:])), 401)
	r.expect("another time", r.post(body, sendgridTimestamp, when+"0", sendgridSignature, k.sign(crypto.SHA256, sum[:])), 401)
	r.stored(2)
}

func TestPostal(t *testing.T) {
	k := rsaKey(t)
	c := config(t)
	der, err := base64.StdEncoding.DecodeString(k.public)
	if err != nil {
		t.Fatal(err)
	}
	c.Verify, c.Secrets = Postal, []string{string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}
	r := start(t, c)
	const body = `{"event":"MessageSent"}`
	s1, s256 := sha1.Sum([]byte(body)), sha256.Sum256([]byte(body))
	old, current := k.sign(crypto.SHA1, s1[:]), k.sign(crypto.SHA256, s256[:])
	r.expect("both", r.post(body, postalSignature, old, postalSignature256, current), 200)
	r.expect("an older Postal", r.post(body, postalSignature, old), 200)
	r.expect("changed", r.post(body+" ", postalSignature, old, postalSignature256, current), 401)
	r.expect("mixed up", r.post(body, postalSignature256, old), 401)
	r.expect("unsigned", r.post(body), 401)
	r.stored(2)
}

func TestMailgun(t *testing.T) {
	c := config(t)
	c.Verify, c.Secrets = Mailgun, []string{"key"}
	r := start(t, c)
	body := func(key, token string, age time.Duration, event string) string {
		when := strconv.FormatInt(time.Now().Add(-age).Unix(), 10)
		sum := hex.EncodeToString(mac(sha256.New, key, when, token))
		return fmt.Sprintf(`{"signature":{"timestamp":"%s","token":"%s","signature":"%s"},"event-data":{"event":"%s"}}`, when, token, sum, event)
	}
	one := body("key", "t1", 0, "failed")
	r.expect("signed", r.post(one), 200)
	r.expect("sent again", r.post(one), 200)
	r.expect("its token for other events", r.post(strings.Replace(one, "failed", "delivered", 1)), 401)
	r.expect("another key", r.post(body("other", "t2", 0, "failed")), 401)
	r.expect("an old one", r.post(body("key", "t3", DefaultMaxAge+time.Minute, "failed")), 401)
	r.expect("a number", r.post(strings.Replace(strings.Replace(body("key", "t4", 0, "failed"), `p":"`, `p":`, 1), `","token`, `,"token`, 1)), 200)
	for _, forged := range []string{"", "{}", "null", "[]", `{"signature":null}`, `{"signature":{"token":"","timestamp":"1","signature":""}}`} {
		r.expect(forged, r.post(forged), 401)
	}
	r.stored(3)
}

func TestMailgunTokensAreBounded(t *testing.T) {
	var seen tokens
	one, two := sha256.Sum256([]byte("1")), sha256.Sum256([]byte("2"))
	for range 2 {
		if !seen.first("token", one) {
			t.Error("a request that is sent again is refused")
		}
	}
	if seen.first("token", two) {
		t.Error("a token may be used for two requests")
	}
	for i := range 2 * maxTokens {
		seen.first(strconv.Itoa(i), one)
	}
	if n := len(seen.now) + len(seen.old); n > maxTokens || n < maxTokens/2 {
		t.Errorf("%d tokens are remembered", n)
	}
}

func TestMandrill(t *testing.T) {
	c := config(t)
	c.Verify, c.Secrets, c.URL = Mandrill, []string{"key"}, "https://hooks.example.com/mandrill"
	r := start(t, c)
	post := func(key, where, events string) int {
		form := url.Values{"mandrill_events": {events}}
		sum := mac(sha1.New, key, where, "mandrill_events", events)
		return r.post(form.Encode(), "Content-Type", "application/x-www-form-urlencoded", mandrillSignature, base64.StdEncoding.EncodeToString(sum))
	}
	const events = `[{"event":"hard_bounce","msg":{"email":"ann+b@example.com"}}]`
	r.expect("signed", post("key", c.URL, events), 200)
	r.expect("a test", post("key", c.URL, "[]"), 200)
	r.expect("a test before the key is known", post("test-webhook", c.URL, "[]"), 200)
	r.expect("events with the key that everybody knows", post("test-webhook", c.URL, events), 401)
	r.expect("another URL", post("key", c.URL+"/", events), 401)
	r.expect("another key", post("other", c.URL, events), 401)
	r.expect("unsigned", r.post("mandrill_events=%5B%5D"), 401)
	r.expect("no form", r.post("%", mandrillSignature, "AAAA"), 401)
	if got := r.stored(1); !strings.HasPrefix(got[0], "mandrill_events=%5B%7B") {
		t.Errorf("stored %q", got)
	}
}

// amazonaws stands in for Amazon's hosts.
type amazonaws struct {
	cert      []byte
	fetched   atomic.Int32
	confirmed atomic.Int32
	down      atomic.Bool
}

func (a *amazonaws) RoundTrip(r *http.Request) (*http.Response, error) {
	if a.down.Load() {
		return nil, errors.New("network is unreachable")
	}
	w := httptest.NewRecorder()
	switch {
	case r.URL.Host == "sns.eu-central-1.amazonaws.com" && r.URL.Path == "/SimpleNotificationService-1.pem":
		a.fetched.Add(1)
		_, _ = w.Write(a.cert)
	case r.URL.Host == "sns.eu-central-1.amazonaws.com" && r.URL.Query().Get("Action") == "ConfirmSubscription":
		a.confirmed.Add(1)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
	return w.Result(), nil
}

const topic = "arn:aws:sns:eu-central-1:123456789012:bounces"

func TestSNS(t *testing.T) {
	k := rsaKey(t)
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sns.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, k.signer.Public(), k.signer)
	if err != nil {
		t.Fatal(err)
	}
	amazon := &amazonaws{cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
	c := config(t)
	c.Verify, c.Topics, c.Client = SNS, []string{topic}, &http.Client{Transport: amazon}
	r := start(t, c)

	type fields map[string]string
	base := func() fields {
		return fields{
			"Type": "Notification", "MessageId": "1", "TopicArn": topic, "Message": `{"eventType":"Bounce"}`,
			"Timestamp":        time.Now().UTC().Format("2006-01-02T15:04:05.000Z"),
			"SignatureVersion": "1", "SigningCertURL": "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-1.pem",
		}
	}
	// sign follows Amazon's description: the names in order, each with its value.
	sign := func(f fields) fields {
		names := []string{"Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"}
		if f["Type"] != "Notification" {
			names = []string{"Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"}
		}
		var text strings.Builder
		for _, name := range names {
			if v, ok := f[name]; ok {
				text.WriteString(name + "\n" + v + "\n")
			}
		}
		if f["SignatureVersion"] == "2" {
			sum := sha256.Sum256([]byte(text.String()))
			f["Signature"] = k.sign(crypto.SHA256, sum[:])
		} else {
			sum := sha1.Sum([]byte(text.String()))
			f["Signature"] = k.sign(crypto.SHA1, sum[:])
		}
		return f
	}
	post := func(f fields) int {
		body, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		return r.post(string(body))
	}
	with := func(changes ...string) fields {
		f := base()
		for i := 0; i < len(changes); i += 2 {
			f[changes[i]] = changes[i+1]
		}
		return f
	}

	// A member that is there twice, in other letters, is not taken for the signed
	// one by one reader and for the other by the next.
	twice, err := json.Marshal(sign(base()))
	if err != nil {
		t.Fatal(err)
	}
	r.expect("a second message", r.post(strings.Replace(string(twice), `{`, `{"message":"forged",`, 1)), 200)
	if got := r.stored(1)[0]; strings.Contains(got, "forged") {
		t.Errorf("stored %s", got)
	}

	amazon.down.Store(true)
	r.expect("while a certificate cannot be fetched", post(sign(with("SigningCertURL", "https://sns.us-east-1.amazonaws.com/x.pem"))), 503)
	amazon.down.Store(false)
	r.expect("version 1", post(sign(base())), 200)
	r.expect("version 2 with a subject", post(sign(with("SignatureVersion", "2", "Subject", "hello"))), 200)
	r.expect("an empty subject", post(sign(with("Subject", ""))), 200)
	if n := amazon.fetched.Load(); n != 1 {
		t.Errorf("the certificate was fetched %d times", n)
	}

	changed := sign(base())
	changed["Message"] = "{}"
	r.expect("changed", post(changed), 401)
	r.expect("a topic of somebody else", post(sign(with("TopicArn", topic+"2"))), 401)
	r.expect("another version", post(sign(with("SignatureVersion", "3"))), 401)
	r.expect("an old one", post(sign(with("Timestamp", time.Now().Add(-48*time.Hour).UTC().Format(time.RFC3339)))), 401)
	r.expect("no time", post(sign(with("Timestamp", "now"))), 401)
	r.expect("raw delivery", r.post(`{"eventType":"Bounce"}`), 401)
	for _, where := range []string{
		"http://sns.eu-central-1.amazonaws.com/SimpleNotificationService-1.pem",
		"https://sns.eu-central-1.amazonaws.com.example.com/SimpleNotificationService-1.pem",
		"https://evil.s3.amazonaws.com/SimpleNotificationService-1.pem",
		"https://sns.evil.s3.amazonaws.com/SimpleNotificationService-1.pem",
		"https://sns.eu-central-1.amazonaws.com@example.com/SimpleNotificationService-1.pem",
		"https://sns.eu-central-1.amazonaws.com:8443/SimpleNotificationService-1.pem",
		"https://sns.eu-central-1.amazonaws.com/?Action=x.pem",
		"https://sns.amazonaws.com/SimpleNotificationService-1.pem",
		"%",
	} {
		r.expect(where, post(sign(with("SigningCertURL", where))), 401)
	}

	confirmation := func(where string) fields {
		return sign(with("Type", "SubscriptionConfirmation", "Token", "token", "SubscribeURL", where))
	}
	r.expect("a confirmation", post(confirmation("https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription&Token=token")), 200)
	r.expect("a confirmation elsewhere", post(confirmation("https://internal.example/?Action=ConfirmSubscription")), 401)
	forged := confirmation("https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription&Token=token")
	forged["Token"] = "other"
	r.expect("a forged confirmation", post(forged), 401)
	if n := amazon.confirmed.Load(); n != 1 {
		t.Errorf("confirmed %d times", n)
	}
	r.expect("a confirmation that fails", post(confirmation("https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription")), 503)
	r.expect("the end of a subscription", post(sign(with("Type", "UnsubscribeConfirmation", "Token", "t", "SubscribeURL", "https://x.example/"))), 200)
	r.stored(3)
}

// Whatever is sent without the key is refused, and nothing makes it panic.
func FuzzForged(f *testing.F) {
	f.Add("mailgun", []byte(`{"signature":{"timestamp":"1790000000","token":"t","signature":"00"}}`), "AAAA", "1790000000")
	f.Add("mandrill", []byte("mandrill_events=[]"), "AAAA", "")
	f.Add("sns", []byte(`{"Type":"Notification","TopicArn":"`+topic+`","SigningCertURL":"https://sns.a.amazonaws.com/x.pem","SignatureVersion":"2","Timestamp":"2026-01-01T00:00:00Z"}`), "", "")
	f.Add("sendgrid", []byte("[]"), "MEUCIQ==", "1790000000")
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(ec.Public())
	if err != nil {
		f.Fatal(err)
	}
	checks := make(map[string]check)
	for _, scheme := range []string{Mailgun, Mandrill, SNS, SendGrid} {
		c := Config{
			Verify: scheme, Secrets: []string{"a key that nobody guesses"}, URL: "https://x.example/", Topics: []string{topic}, MaxAge: 1e6 * time.Hour,
			Client: &http.Client{Transport: &amazonaws{cert: []byte("x")}}, Log: slog.New(slog.DiscardHandler),
		}
		if scheme == SendGrid {
			c.Secrets = []string{base64.StdEncoding.EncodeToString(der)}
		}
		if checks[scheme], err = newCheck(&c); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, scheme string, body []byte, signature, when string) {
		check, ok := checks[scheme]
		if !ok {
			return
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
		r.Header = http.Header{sendgridSignature: {signature}, sendgridTimestamp: {when}, mandrillSignature: {signature}}
		if keep, err := check.body(r, body); err == nil && len(keep) > 0 {
			t.Errorf("%s believes %q", scheme, body)
		}
	})
}

// BenchmarkReceive is a whole request over a connection that is kept, many side
// by side, each on disk before it is answered.
func BenchmarkReceive(b *testing.B) {
	c := Config{
		Listen: "127.0.0.1:0", Path: "/events", Verify: Token, Secrets: []string{"token"},
		Spool: spool.Config{Dir: b.TempDir(), MaxBytes: 1 << 40}, Log: slog.New(slog.DiscardHandler),
	}
	s, err := New(c)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done, ready := make(chan error, 1), make(chan struct{})
	go func() {
		done <- s.Run(ctx, func(ctx context.Context, l *spool.Lane) error {
			defer close(ready)
			return l.Open(ctx, event.Position{})
		})
	}()
	<-ready
	for s.config.Hub.Address(c.Listen) == nil {
		<-time.After(time.Millisecond)
	}
	where := "http://" + s.config.Hub.Address(c.Listen).String() + c.Path
	body := `[` + strings.Repeat(" ", 1000) + `]`
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r, _ := http.NewRequestWithContext(ctx, http.MethodPost, where, strings.NewReader(body))
			r.Header.Set("Authorization", "Bearer token")
			answer, err := client.Do(r)
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, answer.Body)
			_ = answer.Body.Close()
		}
	})
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}
