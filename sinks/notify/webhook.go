package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// WebhookConfig says where news is posted to.
type WebhookConfig struct {
	// URL to post to, or a file that holds it, for one that is secret.
	URL, URLFile string
	HTTP         HTTPConfig
	// SecretFile holds the key that messages are signed with; empty signs none.
	// A key that begins with whsec_ is base64 behind that.
	SecretFile string
	// Name of the notifier, told as "receiver".
	Name string
	// Title and Text are templates; see TemplateConfig.
	Title, Text string
	// Link is the address of the daemon's page as people reach it; may be empty.
	Link string
}

// Webhook posts news in the form of Alertmanager's webhooks, version 4, with the
// title and text of the message besides. It is signed as Standard Webhooks
// 1.0.0 says: headers webhook-id, webhook-timestamp and webhook-signature. The
// id, also sent as Idempotency-Key, is the same for the same news.
type Webhook struct {
	config   WebhookConfig
	http     *httpClient
	template *Template
}

// webhookMessage is the body. The first ten fields are Alertmanager's.
type webhookMessage struct {
	Version           string            `json:"version"`
	GroupKey          string            `json:"groupKey"`
	TruncatedAlerts   int               `json:"truncatedAlerts"`
	Status            string            `json:"status"`
	Receiver          string            `json:"receiver"`
	GroupLabels       map[string]string `json:"groupLabels"`
	CommonLabels      map[string]string `json:"commonLabels"`
	CommonAnnotations map[string]string `json:"commonAnnotations"`
	ExternalURL       string            `json:"externalURL"`
	Alerts            []webhookAlert    `json:"alerts"`
	Title             string            `json:"title"`
	Text              string            `json:"text"`
}

// webhookAlert is one alert of the body.
type webhookAlert struct {
	Status string `json:"status"`
	amAlert
	Fingerprint string `json:"fingerprint"`
}

// maxPosted bounds the alerts of one message.
const maxPosted = 100

// NewWebhook returns a Teller for a URL.
func NewWebhook(c WebhookConfig) (*Webhook, error) {
	w := &Webhook{config: c}
	switch {
	case c.URL == "" && c.URLFile == "":
		return nil, errors.New("url: there is none; write url, or url_file if it is secret")
	case c.URL != "" && c.URLFile != "":
		return nil, errors.New("url: there is a url_file, too; remove one")
	case c.URL != "":
		if _, err := parseURL(c.URL); err != nil {
			return nil, fmt.Errorf("url: %w", err)
		}
	}
	var err error
	if w.template, err = NewTemplate(TemplateConfig{Title: c.Title, Text: c.Text, Link: c.Link}); err != nil {
		return nil, err
	}
	w.http, err = newHTTPClient(c.HTTP)
	return w, err
}

// Every implements Teller.
func (*Webhook) Every() time.Duration { return 0 }

// Tell implements Teller.
func (w *Webhook) Tell(ctx context.Context, n *News) error {
	return w.post(ctx, idOf(n), w.message(n))
}

// Write implements Writer: a message without alerts.
func (w *Webhook) Write(ctx context.Context, l *Letter) error {
	m := &webhookMessage{
		Version: "4", GroupKey: "bouncemeter/" + w.config.Name + "/digest", Receiver: w.config.Name, Status: "resolved",
		GroupLabels: map[string]string{}, CommonLabels: map[string]string{}, CommonAnnotations: map[string]string{},
		ExternalURL: w.config.Link, Alerts: []webhookAlert{},
	}
	m.Title, m.Text = l.message(Plain, Plain)
	return w.post(ctx, l.ID, m)
}

// post sends a message; id is the same for the same message.
func (w *Webhook) post(ctx context.Context, id string, m *webhookMessage) error {
	to, err := w.url()
	if err != nil {
		return err
	}
	body, err := json.Marshal(m)
	if err != nil {
		return Refused(fmt.Errorf("write the message as JSON: %w", err))
	}
	h := http.Header{}
	h.Set("Idempotency-Key", id)
	h.Set("Webhook-Id", id)
	if w.config.SecretFile != "" {
		secret, err := readSecret(w.config.SecretFile)
		if err != nil {
			return fmt.Errorf("secret_file: %w", err)
		}
		stamp := strconv.FormatInt(time.Now().Unix(), 10)
		h.Set("Webhook-Timestamp", stamp)
		h.Set("Webhook-Signature", sign(secret, id, stamp, body))
	}
	return w.http.post(ctx, to, body, h)
}

func (w *Webhook) url() (*url.URL, error) {
	s := w.config.URL
	if w.config.URLFile != "" {
		var err error
		if s, err = readSecret(w.config.URLFile); err != nil {
			return nil, fmt.Errorf("url_file: %w", err)
		}
	}
	u, err := parseURL(s)
	if err != nil && w.config.URLFile != "" {
		err = fmt.Errorf("url_file %s: %w", w.config.URLFile, err)
	}
	return u, err
}

// sign returns the value of the header webhook-signature.
func sign(secret, id, stamp string, body []byte) string {
	key := []byte(secret)
	if encoded, ok := strings.CutPrefix(secret, "whsec_"); ok {
		if b, err := base64.StdEncoding.DecodeString(encoded); err == nil {
			key = b
		}
	}
	h := hmac.New(sha256.New, key)
	h.Write([]byte(id + "." + stamp + "."))
	h.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// idOf is the same for the same news only.
func idOf(n *News) string {
	h := sha256.New()
	for i := range n.Items {
		a := &n.Items[i].Alert
		fmt.Fprintf(h, "%s %s %d\n", a.ID, a.State, a.Updated.Unix())
	}
	return "bouncemeter-" + hex.EncodeToString(h.Sum(nil)[:16])
}

func (w *Webhook) message(n *News) *webhookMessage {
	m := &webhookMessage{
		Version: "4", GroupKey: "bouncemeter/" + w.config.Name, Receiver: w.config.Name, Status: "resolved",
		GroupLabels: map[string]string{}, ExternalURL: w.config.Link, TruncatedAlerts: max(0, len(n.Items)-maxPosted),
	}
	for i := range n.Items[:min(len(n.Items), maxPosted)] {
		x := &n.Items[i].Alert
		a := webhookAlert{Status: status(x), amAlert: amAlert{Labels: amLabels(x), Annotations: annotations(x), StartsAt: x.Since.UTC(), EndsAt: x.Resolved.UTC()}}
		if w.config.Link != "" {
			a.GeneratorURL = alertURL(w.config.Link, x.ID)
		}
		f := fnv.New64a()
		f.Write([]byte(labelsKey(a.Labels)))
		a.Fingerprint = fmt.Sprintf("%016x", f.Sum64())
		if x.State.Open() {
			m.Status = "firing"
		}
		if i == 0 {
			m.CommonLabels, m.CommonAnnotations = maps.Clone(a.Labels), maps.Clone(a.Annotations)
		}
		keepCommon(m.CommonLabels, a.Labels)
		keepCommon(m.CommonAnnotations, a.Annotations)
		m.Alerts = append(m.Alerts, a)
	}
	m.Title, m.Text = w.template.Message(w.config.Name, n)
	return m
}

// keepCommon drops from common what of does not have alike.
func keepCommon(common, of map[string]string) {
	maps.DeleteFunc(common, func(k, v string) bool {
		other, ok := of[k]
		return !ok || other != v
	})
}
