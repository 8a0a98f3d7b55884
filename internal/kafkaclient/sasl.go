package kafkaclient

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
)

// plain is the mechanism of RFC 4616: the password as it is.
type plain struct{ config SASL }

func (plain) Name() string { return "PLAIN" }

func (p plain) Start(context.Context) (sasl.StateMachine, []byte, error) {
	password, err := p.config.password()
	if err != nil {
		return nil, nil, err
	}
	return p, []byte("\x00" + p.config.User + "\x00" + password), nil
}

// Next is reached only if the broker has accepted the login.
func (plain) Next(context.Context, []byte) (done bool, response []byte, err error) {
	return true, nil, nil
}

// scram is the mechanism of RFC 5802 and 7677: the password never leaves us, and
// the broker shows that it knows it too. As Kafka does, the password is taken
// byte by byte, without the string preparation that RFC 5802 asks for.
type scram struct {
	config SASL
	name   string
	sum    scramHash
}

func (s scram) Name() string { return s.name }

func (s scram) Start(context.Context) (sasl.StateMachine, []byte, error) {
	password, err := s.config.password()
	if err != nil {
		return nil, nil, err
	}
	user := strings.NewReplacer("=", "=3D", ",", "=2C").Replace(s.config.User)
	c := &scramConversation{sum: s.sum, password: password, nonce: rand.Text()}
	c.first = "n=" + user + ",r=" + c.nonce
	return c, []byte(gs2Header + c.first), nil
}

// gs2Header says that there is no channel binding and no other identity.
const gs2Header = "n,,"

// scramHash is what differs between the variants.
type scramHash struct {
	make func() hash.Hash
	key  func(password string, salt []byte, iterations int) ([]byte, error)
}

var (
	scram256 = scramHash{sha256.New, func(password string, salt []byte, n int) ([]byte, error) {
		return pbkdf2.Key(sha256.New, password, salt, n, sha256.Size)
	}}
	scram512 = scramHash{sha512.New, func(password string, salt []byte, n int) ([]byte, error) {
		return pbkdf2.Key(sha512.New, password, salt, n, sha512.Size)
	}}
)

func (h scramHash) hmac(key []byte, text string) []byte {
	m := hmac.New(h.make, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

// scramConversation is one login.
type scramConversation struct {
	sum             scramHash
	password, nonce string
	first           string // our first message without its header
	expected        []byte // the broker's signature, once our proof is sent
}

// maxIterations bounds how long a false broker can keep us busy.
const maxIterations = 1 << 20

// Next answers the broker's first message with our proof, and checks the
// signature in its last.
func (c *scramConversation) Next(_ context.Context, challenge []byte) (done bool, response []byte, err error) {
	fields := scramFields(string(challenge))
	if e, ok := fields["e"]; ok {
		return false, nil, fmt.Errorf("%w: %q", kafka.SASLAuthenticationFailed, e)
	}
	if c.expected != nil {
		signature, err := base64.StdEncoding.DecodeString(fields["v"])
		if err != nil || !hmac.Equal(signature, c.expected) {
			return false, nil, errors.New("the broker does not know the password itself: it may be a false one")
		}
		return true, nil, nil
	}
	salt, err := base64.StdEncoding.DecodeString(fields["s"])
	n, nerr := strconv.Atoi(fields["i"])
	if err != nil || len(salt) == 0 || nerr != nil || n < 1 || n > maxIterations || !strings.HasPrefix(fields["r"], c.nonce) || fields["r"] == c.nonce {
		return false, nil, errors.New("the broker's part of the login is not as RFC 5802 says")
	}
	salted, err := c.sum.key(c.password, salt, n)
	if err != nil {
		return false, nil, fmt.Errorf("derive the key of the login: %w", err)
	}
	final := "c=" + base64.StdEncoding.EncodeToString([]byte(gs2Header)) + ",r=" + fields["r"]
	conversation := c.first + "," + string(challenge) + "," + final
	client := c.sum.hmac(salted, "Client Key")
	h := c.sum.make()
	h.Write(client)
	proof := c.sum.hmac(h.Sum(nil), conversation)
	for i := range proof {
		proof[i] ^= client[i]
	}
	c.expected = c.sum.hmac(c.sum.hmac(salted, "Server Key"), conversation)
	return false, []byte(final + ",p=" + base64.StdEncoding.EncodeToString(proof)), nil
}

// scramFields splits "r=…,s=…,i=…".
func scramFields(message string) map[string]string {
	fields := make(map[string]string)
	for part := range strings.SplitSeq(message, ",") {
		if name, value, ok := strings.Cut(part, "="); ok {
			fields[name] = value
		}
	}
	return fields
}
