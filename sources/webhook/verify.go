package webhook

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// How requests prove where they are from.
const (
	// SNS: Amazon signs the message; the certificate comes from its own hosts.
	SNS = "sns"
	// SendGrid signs time and body with ECDSA; the secret is the public key.
	SendGrid = "sendgrid"
	// Mailgun signs a time and a token with HMAC-SHA256, but not the rest: only
	// HTTPS protects that.
	Mailgun = "mailgun"
	// Mandrill signs URL and body with HMAC-SHA1.
	Mandrill = "mandrill"
	// Postal signs the body with RSA; the secret is the public key.
	Postal = "postal"
	// Basic is a user and password (RFC 7617).
	Basic = "basic"
	// Token is a bearer token (RFC 6750).
	Token = "token"
	// None takes every request. Then something else has to keep others out.
	None = "none"
)

// Schemes lists the ways to verify requests.
func Schemes() []string {
	return []string{SNS, SendGrid, Mailgun, Mandrill, Postal, Basic, Token, None}
}

// ByDialect returns the scheme that the provider of a dialect uses: its own, or
// what it can be told to send.
func ByDialect(dialect string) string {
	switch dialect {
	case "ses":
		return SNS
	case SendGrid, Mailgun, Mandrill, Postal:
		return dialect
	case "sparkpost", "postmark":
		return Basic
	}
	return Token
}

// errProof is wrapped by the reason for not believing a request. Who sent it is
// told no more than this.
var errProof = errors.New("there is no proof of where this request is from")

func unproven(why string) error { return fmt.Errorf("%w: %s", errProof, why) }

// check decides whether a request is believed.
type check struct {
	// head looks at the request without its body, so that strangers are sent away
	// before it is read.
	head func(*http.Request) error
	// body looks at the whole and returns what to keep of it, which is nothing if
	// it has no events. An error that does not wrap errProof means that it could
	// not be decided.
	body func(*http.Request, []byte) (keep []byte, err error)
}

func newCheck(c *Config) (check, error) {
	v := check{
		head: func(*http.Request) error { return nil },
		body: func(_ *http.Request, body []byte) ([]byte, error) { return body, nil },
	}
	if !slices.Contains(Schemes(), c.Verify) {
		return v, fmt.Errorf("verify: %q is unknown: use one of %s", c.Verify, strings.Join(Schemes(), ", "))
	}
	if c.Verify != SNS && c.Verify != None && len(c.Secrets) == 0 {
		return v, fmt.Errorf("verify: %s needs a key, password or token; name the file that holds it in secret_file", c.Verify)
	}
	if slices.Contains(c.Secrets, "") {
		return v, errors.New("verify: a secret is empty")
	}
	switch c.Verify {
	case None:
	case Basic:
		if c.User == "" {
			return v, errors.New("verify: basic needs a user; write user: NAME, and give the provider the URL with it")
		}
		v.head = basic(c)
	case Token:
		v.head = token(c)
	case SendGrid:
		keys, err := publicKeys[*ecdsa.PublicKey](c.Secrets)
		if err != nil {
			return v, fmt.Errorf("verify: the key of SendGrid: %w; copy the Verification Key from its settings of signed events", err)
		}
		v.head, v.body = needs(sendgridSignature, sendgridTimestamp), sendgrid(c, keys)
	case Postal:
		keys, err := publicKeys[*rsa.PublicKey](c.Secrets)
		if err != nil {
			return v, fmt.Errorf("verify: the key of Postal: %w; store what comes of: postal default-dkim-record, after p=", err)
		}
		v.body = postal(keys)
	case Mailgun:
		v.body = mailgun(c)
	case Mandrill:
		if u, err := url.Parse(c.URL); err != nil || u.Host == "" {
			return v, fmt.Errorf("verify: mandrill signs the URL of the webhook, and %q is none; write url: with the address that Mandrill was told, letter for letter", c.URL)
		}
		v.head, v.body = needs(mandrillSignature), mandrill(c)
	case SNS:
		if len(c.Topics) == 0 {
			return v, errors.New("verify: anybody can send by SNS; write sns_topics: with the ARNs of the topics that are yours")
		}
		v.body = newSNS(c).check
	}
	return v, nil
}

func needs(headers ...string) func(*http.Request) error {
	return func(r *http.Request) error {
		for _, name := range headers {
			if r.Header.Get(name) == "" {
				return unproven("it has no header " + name)
			}
		}
		return nil
	}
}

// same compares without telling by its time where a and b differ.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

func basic(c *Config) func(*http.Request) error {
	return func(r *http.Request) error {
		user, password, ok := r.BasicAuth()
		if !ok {
			return unproven("it has no user and password")
		}
		for _, s := range c.Secrets {
			if same(user, c.User) && same(password, s) {
				return nil
			}
		}
		return unproven("user or password is wrong")
	}
}

func token(c *Config) func(*http.Request) error {
	return func(r *http.Request) error {
		scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return unproven("it has no bearer token")
		}
		for _, s := range c.Secrets {
			if same(strings.TrimSpace(given), s) {
				return nil
			}
		}
		return unproven("the token is wrong")
	}
}

// fresh checks the time of a signature, in Unix seconds.
func fresh(seconds string, maxAge time.Duration) error {
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return unproven("its time is no number")
	}
	return freshTime(time.Unix(n, 0), maxAge)
}

func freshTime(t time.Time, maxAge time.Duration) error {
	switch age := time.Since(t); {
	case age > maxAge:
		return unproven("its signature is too old; it may be a replay")
	case age < -future:
		return unproven("its signature is from the future; check the clock")
	}
	return nil
}

// publicKeys reads keys in PEM, or in the base64 of DER alone.
func publicKeys[K any](secrets []string) (keys []K, err error) {
	for _, s := range secrets {
		der, err := base64.StdEncoding.DecodeString(s)
		if block, _ := pem.Decode([]byte(s)); block != nil {
			der, err = block.Bytes, nil
		}
		if err != nil {
			return nil, errors.New("it is neither PEM nor base64")
		}
		any, err := x509.ParsePKIXPublicKey(der)
		if err != nil {
			return nil, err
		}
		key, ok := any.(K)
		if !ok {
			return nil, fmt.Errorf("it is a %T, which is not what signs", any)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// Headers of SendGrid's signature; see
// https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features.
const (
	sendgridSignature = "X-Twilio-Email-Event-Webhook-Signature"
	sendgridTimestamp = "X-Twilio-Email-Event-Webhook-Timestamp"
)

func sendgrid(c *Config, keys []*ecdsa.PublicKey) func(*http.Request, []byte) ([]byte, error) {
	return func(r *http.Request, body []byte) ([]byte, error) {
		when := r.Header.Get(sendgridTimestamp)
		signature, err := base64.StdEncoding.DecodeString(r.Header.Get(sendgridSignature))
		if err != nil {
			return nil, unproven("its signature is no base64")
		}
		h := sha256.New()
		h.Write([]byte(when))
		h.Write(body)
		sum := h.Sum(nil)
		if !slices.ContainsFunc(keys, func(k *ecdsa.PublicKey) bool { return ecdsa.VerifyASN1(k, sum, signature) }) {
			return nil, unproven("its signature is wrong")
		}
		return body, fresh(when, c.MaxAge)
	}
}

// Headers of Postal's signatures. Versions before 3 have the first only.
const (
	postalSignature    = "X-Postal-Signature"
	postalSignature256 = "X-Postal-Signature-256"
)

func postal(keys []*rsa.PublicKey) func(*http.Request, []byte) ([]byte, error) {
	return func(r *http.Request, body []byte) ([]byte, error) {
		sum256 := sha256.Sum256(body)
		given, kind, sum := r.Header.Get(postalSignature256), crypto.SHA256, sum256[:]
		if given == "" {
			sum1 := sha1.Sum(body)
			given, kind, sum = r.Header.Get(postalSignature), crypto.SHA1, sum1[:]
		}
		signature, err := base64.StdEncoding.DecodeString(given)
		if err != nil || given == "" {
			return nil, unproven("it has no header " + postalSignature256 + " with base64")
		}
		if !slices.ContainsFunc(keys, func(k *rsa.PublicKey) bool { return rsa.VerifyPKCS1v15(k, kind, sum, signature) == nil }) {
			return nil, unproven("its signature is wrong")
		}
		return body, nil
	}
}

func mac(of func() hash.Hash, key string, parts ...string) []byte {
	m := hmac.New(of, []byte(key))
	for _, p := range parts {
		m.Write([]byte(p))
	}
	return m.Sum(nil)
}

// mailgun checks the signature in the body; see
// https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks.
// It is of a token and not of the events, so a token that was seen before has to
// come with the same body.
func mailgun(c *Config) func(*http.Request, []byte) ([]byte, error) {
	var seen tokens
	return func(_ *http.Request, body []byte) ([]byte, error) {
		var signed struct {
			Signature struct {
				Timestamp jsonText `json:"timestamp"`
				Token     string   `json:"token"`
				Signature string   `json:"signature"`
			} `json:"signature"`
		}
		if err := json.Unmarshal(body, &signed); err != nil {
			return nil, unproven("it is no JSON with a signature")
		}
		s := &signed.Signature
		given, err := hex.DecodeString(s.Signature)
		if err != nil || s.Token == "" {
			return nil, unproven("it has no signature")
		}
		if !slices.ContainsFunc(c.Secrets, func(key string) bool {
			return hmac.Equal(given, mac(sha256.New, key, string(s.Timestamp), s.Token))
		}) {
			return nil, unproven("its signature is wrong")
		}
		if err := fresh(string(s.Timestamp), c.MaxAge); err != nil {
			return nil, err
		}
		if !seen.first(s.Token, sha256.Sum256(body)) {
			return nil, unproven("its token was used for another request")
		}
		return body, nil
	}
}

// jsonText is a string or a number as it is written.
type jsonText string

func (t *jsonText) UnmarshalJSON(b []byte) error {
	*t = jsonText(bytes.Trim(b, `"`))
	return nil
}

// maxTokens is how many tokens of Mailgun are remembered, at least half of them.
const maxTokens = 100_000

// tokens remembers what tokens were used for, the last ones at least.
type tokens struct {
	mu       sync.Mutex
	now, old map[[16]byte][16]byte
}

// first reports whether the token was not used before for another body.
func (t *tokens) first(token string, body [sha256.Size]byte) bool {
	full := sha256.Sum256([]byte(token))
	key, value := [16]byte(full[:16]), [16]byte(body[:16])
	t.mu.Lock()
	defer t.mu.Unlock()
	was, found := t.now[key]
	if !found {
		was, found = t.old[key]
	}
	if found && was != value {
		return false
	}
	if t.now == nil || len(t.now) >= maxTokens/2 {
		t.old, t.now = t.now, make(map[[16]byte][16]byte)
	}
	t.now[key] = value
	return true
}

const mandrillSignature = "X-Mandrill-Signature"

// mandrillTest is the key that Mandrill signs a test with, sent before it tells
// anybody the key of a new webhook.
const mandrillTest = "test-webhook"

// mandrill checks the signature of URL and form; see
// https://mailchimp.com/developer/transactional/guides/track-respond-activity-webhooks/.
func mandrill(c *Config) func(*http.Request, []byte) ([]byte, error) {
	return func(r *http.Request, body []byte) ([]byte, error) {
		given, err := base64.StdEncoding.DecodeString(r.Header.Get(mandrillSignature))
		if err != nil {
			return nil, unproven("its signature is no base64")
		}
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return nil, unproven("it is no form")
		}
		var names []string
		for name := range form {
			names = append(names, name)
		}
		slices.Sort(names)
		parts := []string{c.URL}
		for _, name := range names {
			for _, value := range form[name] {
				parts = append(parts, name, value)
			}
		}
		empty := strings.TrimSpace(form.Get("mandrill_events")) == "[]"
		for _, key := range c.Secrets {
			if hmac.Equal(given, mac(sha1.New, key, parts...)) {
				if empty {
					return nil, nil
				}
				return body, nil
			}
		}
		if empty && hmac.Equal(given, mac(sha1.New, mandrillTest, parts...)) {
			return nil, nil
		}
		return nil, unproven("its signature is wrong; check that url is the address that Mandrill was told")
	}
}
