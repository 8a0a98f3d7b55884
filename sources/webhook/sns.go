package webhook

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// sns checks what Amazon SNS sends; see
// https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html.
type sns struct {
	c *Config

	mu    sync.Mutex // guards certs
	certs map[string]*x509.Certificate
}

const maxCerts = 32 // more than Amazon has regions with a key in use

func newSNS(c *Config) *sns { return &sns{c: c, certs: make(map[string]*x509.Certificate)} }

type snsMessage struct {
	Type             string  `json:"Type"`
	MessageID        string  `json:"MessageId"`
	TopicArn         string  `json:"TopicArn"`
	Subject          *string `json:"Subject,omitempty"`
	Message          string  `json:"Message"`
	Timestamp        string  `json:"Timestamp"`
	Token            string  `json:"Token,omitempty"`
	SubscribeURL     string  `json:"SubscribeURL,omitempty"`
	SignatureVersion string  `json:"SignatureVersion"`
	Signature        string  `json:"Signature"`
	SigningCertURL   string  `json:"SigningCertURL"`
}

// check believes messages that Amazon has signed and that are of one of our
// topics. The confirmation of a subscription is given, as the topic was
// configured. What is kept is written anew from what was checked: another reader
// could find something else in the body, such as in a member that is there twice.
func (s *sns) check(r *http.Request, body []byte) (keep []byte, err error) {
	var m snsMessage
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, unproven("it is no message of SNS; raw delivery has to be off, since it has no signature")
	}
	if !slices.Contains(s.c.Topics, m.TopicArn) {
		return nil, unproven("its topic is not among sns_topics")
	}
	if err := s.signed(r.Context(), &m); err != nil {
		return nil, err
	}
	switch m.Type {
	case "SubscriptionConfirmation":
		return nil, s.confirm(r.Context(), &m)
	case "UnsubscribeConfirmation":
		s.c.Log.Warn("the subscription of an SNS topic was ended; subscribe again if that was not meant", "topic", m.TopicArn)
		return nil, nil
	}
	return json.Marshal(&m)
}

// text is what the signature is of.
func (m *snsMessage) text() []byte {
	var b bytes.Buffer
	add := func(name, value string) { b.WriteString(name + "\n" + value + "\n") }
	add("Message", m.Message)
	add("MessageId", m.MessageID)
	switch m.Type {
	case "SubscriptionConfirmation", "UnsubscribeConfirmation":
		add("SubscribeURL", m.SubscribeURL)
		add("Timestamp", m.Timestamp)
		add("Token", m.Token)
	default:
		if m.Subject != nil {
			add("Subject", *m.Subject)
		}
		add("Timestamp", m.Timestamp)
	}
	add("TopicArn", m.TopicArn)
	add("Type", m.Type)
	return b.Bytes()
}

func (s *sns) signed(ctx context.Context, m *snsMessage) error {
	when, err := time.Parse(time.RFC3339, m.Timestamp)
	if err != nil {
		return unproven("its timestamp is none")
	}
	if err := freshTime(when, s.c.MaxAge); err != nil {
		return err
	}
	signature, err := base64.StdEncoding.DecodeString(m.Signature)
	if err != nil {
		return unproven("its signature is no base64")
	}
	text := m.text()
	sum1, sum256 := sha1.Sum(text), sha256.Sum256(text)
	kind, sum := crypto.SHA256, sum256[:]
	switch m.SignatureVersion {
	case "1":
		kind, sum = crypto.SHA1, sum1[:]
	case "2":
	default:
		return unproven("the version of its signature is unknown")
	}
	cert, err := s.cert(ctx, m.SigningCertURL)
	if err != nil {
		return err
	}
	if now := time.Now(); now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
		return unproven("the certificate of its signature is out of date")
	}
	key, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok || rsa.VerifyPKCS1v15(key, kind, sum, signature) != nil {
		return unproven("its signature is wrong")
	}
	return nil
}

// amazon checks that a URL leads to SNS itself: any other host of Amazon's may be
// anybody's.
func amazon(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "https" || u.User != nil || u.Port() != "" {
		return nil, unproven("a URL in it is not one of SNS")
	}
	host := strings.TrimSuffix(strings.ToLower(u.Host), ".cn")
	region, ok := strings.CutSuffix(host, ".amazonaws.com")
	if !ok {
		return nil, unproven("a URL in it is not one of SNS")
	}
	region, ok = strings.CutPrefix(region, "sns.")
	if !ok || region == "" || strings.Trim(region, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return nil, unproven("a URL in it is not one of SNS")
	}
	return u, nil
}

// cert returns the certificate at a URL of SNS.
func (s *sns) cert(ctx context.Context, raw string) (*x509.Certificate, error) {
	u, err := amazon(raw)
	if err != nil {
		return nil, err
	}
	if path.Ext(u.Path) != ".pem" || u.RawQuery != "" {
		return nil, unproven("the URL of its certificate is not one of SNS")
	}
	s.mu.Lock()
	cert := s.certs[raw]
	s.mu.Unlock()
	if cert != nil {
		return cert, nil
	}
	text, err := s.get(ctx, u)
	if err != nil {
		return nil, fmt.Errorf("fetch the certificate of SNS: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("fetch the certificate of SNS: it is not in PEM")
	}
	if cert, err = x509.ParseCertificate(block.Bytes); err != nil {
		return nil, fmt.Errorf("fetch the certificate of SNS: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.certs) >= maxCerts {
		clear(s.certs)
	}
	s.certs[raw] = cert
	return cert, nil
}

// confirm visits the address that a subscription is confirmed at.
func (s *sns) confirm(ctx context.Context, m *snsMessage) error {
	u, err := amazon(m.SubscribeURL)
	if err != nil {
		return err
	}
	if _, err := s.get(ctx, u); err != nil {
		return fmt.Errorf("confirm the subscription of %s: %w", m.TopicArn, err)
	}
	s.c.Log.Info("subscription confirmed", "topic", m.TopicArn)
	return nil
}

func (s *sns) get(ctx context.Context, u *url.URL) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	answer, err := s.c.Client.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answered %s", u.Host, answer.Status)
	}
	return text, err
}
