package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// HTTPConfig says how a receiver is reached over HTTP.
type HTTPConfig struct {
	// Timeout bounds one request. Zero means 10 seconds.
	Timeout time.Duration
	// CAFile has the certificates of the authorities to trust; empty means those
	// of the system. CertFile and KeyFile are shown to the server if both are
	// set.
	CAFile, CertFile, KeyFile string
	// ServerName is the name that the server's certificate must have; empty
	// means that of the URL.
	ServerName string
	// User and PasswordFile log in (basic authentication); BearerFile holds a
	// token to do it with instead. Files are read anew for each request.
	User, PasswordFile, BearerFile string
}

// Check returns what does not go together, joined; it looks at no file.
func (c HTTPConfig) Check() error {
	var faults []error
	if (c.CertFile == "") != (c.KeyFile == "") {
		faults = append(faults, errors.New("tls: a certificate needs its key; set both cert_file and key_file"))
	}
	if (c.User == "") != (c.PasswordFile == "") {
		faults = append(faults, errors.New("user: a login needs both user and password_file; set both"))
	}
	if c.User != "" && c.BearerFile != "" {
		faults = append(faults, errors.New("user: there is a bearer_file, too; remove one of the logins"))
	}
	return errors.Join(faults...)
}

// Limits of answers, and of files with secrets and certificates, in bytes.
const (
	maxAnswer = 64 << 10
	maxFile   = 1 << 20
)

// httpClient posts to receivers.
type httpClient struct {
	config HTTPConfig
	client *http.Client
}

func newHTTPClient(c HTTPConfig) (*httpClient, error) {
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	t := tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CAFile != "" {
		pem, err := readFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("tls.ca_file: %w; correct the name, or let the daemon's user read it", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.ca_file: there is no certificate in %s; it has to be in PEM", c.CAFile)
		}
	}
	if c.CertFile != "" {
		t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
			return &cert, err
		}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &t
	transport.MaxIdleConnsPerHost = 1
	return &httpClient{config: c, client: &http.Client{Timeout: c.Timeout, Transport: transport, CheckRedirect: sameHost}}, nil
}

// sameHost follows a redirect only to the host that was asked, and never from
// HTTPS to HTTP: what is sent is for nobody else.
func sameHost(r *http.Request, via []*http.Request) error {
	first := via[0].URL
	if r.URL.Host != first.Host || first.Scheme == "https" && r.URL.Scheme != "https" || len(via) >= 3 {
		return fmt.Errorf("it redirects to another place, %s; configure that if it is right", r.URL.Host)
	}
	return nil
}

// post sends a JSON body and returns nil if the answer is a success. Errors name
// the host only, as the rest of a URL may be secret.
func (c *httpClient) post(ctx context.Context, to *url.URL, body []byte, header http.Header) error {
	err := c.send(ctx, to, body, header)
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // without the URL
	}
	err = fmt.Errorf("post to %s: %w", to.Host, err)
	if e, ok := errors.AsType[*statusError](err); ok && refuses(e.code) {
		return Refused(err)
	}
	return err
}

// refuses reports whether a status says that this very message is not wanted.
// Others, such as 401 or 404, are put right by the operator, and then it is.
func refuses(code int) bool {
	return code == http.StatusBadRequest || code == http.StatusRequestEntityTooLarge || code == http.StatusUnprocessableEntity
}

func (c *httpClient) send(ctx context.Context, to *url.URL, body []byte, header http.Header) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	for k, v := range header {
		r.Header[k] = v
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "bouncemeter")
	switch {
	case c.config.BearerFile != "":
		token, err := readSecret(c.config.BearerFile)
		if err != nil {
			return fmt.Errorf("bearer_file: %w", err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
	case c.config.User != "":
		password, err := readSecret(c.config.PasswordFile)
		if err != nil {
			return fmt.Errorf("password_file: %w", err)
		}
		r.SetBasicAuth(c.config.User, password)
	}
	answer, err := c.client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if answer.StatusCode/100 == 2 {
		return nil // whatever became of the rest of the answer
	}
	if err != nil {
		text = nil
	}
	e := &statusError{code: answer.StatusCode, body: clean(string(text), 200)}
	if seconds, err := strconv.Atoi(answer.Header.Get("Retry-After")); err == nil && seconds > 0 {
		e.after = time.Duration(min(seconds, 3600)) * time.Second
	}
	return e
}

// CheckURL returns what is wrong with the address of a receiver, without showing
// it.
func CheckURL(s string) error {
	_, err := parseURL(s)
	return err
}

// parseURL reads an HTTP address. Errors do not show it, as it may be secret.
func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("this is no URL; write it as https://HOST/PATH")
	}
	if u.User != nil {
		return nil, errors.New("there is a login in the URL, where others can see it; use user and password_file")
	}
	return u, nil
}

// readSecret returns what a file holds, without white space around it.
func readSecret(file string) (string, error) {
	b, err := readFile(file)
	s := strings.TrimSpace(string(b))
	if err == nil && s == "" {
		err = fmt.Errorf("%s is empty", file)
	}
	return s, err
}

func readFile(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", file, maxFile)
	}
	return b, err
}
