// Package webhook receives the events that mail providers send by HTTP.
//
// The guarantee: a request is answered with 200 once it is on disk, in a spool
// (package spool), and everything in the spool is counted once. What cannot be
// stored is answered with 503 and Retry-After, so the provider sends it again. If
// the answer is lost, it sends it again, too: the events then have the ids that
// they had, by which repeats are told and not counted.
//
// Each source has a path of its own. Requests are taken only if they carry the
// proof that their provider offers; see Config.Verify.
package webhook

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bouncemeter/bouncemeter/sources/spool"
)

const (
	// DefaultMaxBody is more than any provider sends at once.
	DefaultMaxBody = 8 << 20
	// DefaultMaxAge is a little more than the day for which providers repeat a
	// request that was not answered.
	DefaultMaxAge = 26 * time.Hour
	// future is how far ahead of the clock a signature may be dated.
	future = time.Hour
	// inFlight bounds the memory of all requests of a source that are being
	// received.
	inFlight = 32 << 20
	// retryAfter is how many seconds a provider is asked to wait.
	retryAfter = "60"
	nag        = time.Minute // how often refusals are logged
)

// Config says what to receive. The zero value of a field means its default, where
// it has one.
type Config struct {
	// Hub listens; sources with the same Listen share it.
	Hub *Hub
	// Listen is the address and port, such as 127.0.0.1:9726.
	Listen string
	// Path is the path of the URL, such as /sendgrid.
	Path string
	// CertFile and KeyFile, in PEM, make it HTTPS. They are read anew for each
	// connection. Without them something in front has to see to that.
	CertFile, KeyFile string
	// Verify is how requests prove where they are from; see Schemes. ByDialect
	// has the usual one.
	Verify string
	// Secrets are the keys, passwords or tokens of the scheme. A request that
	// fits any of them is taken, so that they can be changed.
	Secrets []string
	// User is the name for Basic.
	User string
	// URL is the address that the provider was told, for Mandrill, which signs
	// it.
	URL string
	// Topics are the names (ARNs) of the topics that messages may be from, for
	// SNS. Anybody can have SNS sign messages of a topic of their own.
	Topics []string
	// MaxAge is how old a signature may be. What is told again within that time
	// is known by its ids. Default 26h.
	MaxAge time.Duration
	// MaxBody is how large a request may be, unpacked. Default 8 MiB.
	MaxBody int
	// Spool is where requests wait until they are counted. Its Sync is always on.
	Spool spool.Config
	// Log takes messages about refused requests and the like. Default
	// slog.Default.
	Log *slog.Logger
	// Client fetches the certificates of SNS. Default: one with a timeout that
	// follows no redirects.
	Client *http.Client
}

// Source receives requests and hands them out as a lane, each as one line.
type Source struct {
	config Config
	check  check
	held   atomic.Int64 // bytes of requests in flight

	open  sync.RWMutex // guards spool
	spool *spool.Spool // nil unless requests can be taken

	stats counters

	noteMu  sync.Mutex
	noted   time.Time // when a refusal was last logged
	unnoted int       // refusals since
}

type counters struct{ accepted, ignored, refused, tooLarge, unavailable, bytes atomic.Int64 }

// Stats is what became of requests since the start of the process.
type Stats struct {
	Accepted    int64 // stored
	Ignored     int64 // proper, but without events: tests and confirmations
	Refused     int64 // without proof of where they are from, or no proper requests
	TooLarge    int64
	Unavailable int64 // answered with 503: to be sent again
	Bytes       int64 // of what was stored
}

// New checks c and returns a source for it. It does not listen yet.
func New(c Config) (*Source, error) {
	c.MaxAge = cmp.Or(c.MaxAge, DefaultMaxAge)
	c.MaxBody = cmp.Or(c.MaxBody, DefaultMaxBody)
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Client == nil {
		c.Client = &http.Client{
			Timeout:       10 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	if c.Hub == nil {
		c.Hub = NewHub(c.Log)
	}
	if !strings.HasPrefix(c.Path, "/") || strings.ContainsAny(c.Path, "?#{} ") {
		return nil, fmt.Errorf("url_path: %q is not the path of a URL; write it like /events", c.Path)
	}
	if c.MaxBody > inFlight/2 {
		return nil, fmt.Errorf("max_body: %d bytes are too many; write at most %d", c.MaxBody, inFlight/2)
	}
	check, err := newCheck(&c)
	if err != nil {
		return nil, err
	}
	c.Spool.Sync, c.Spool.Log = true, c.Log
	return &Source{config: c, check: check}, nil
}

// Stats tells what became of requests.
func (s *Source) Stats() Stats {
	c := &s.stats
	return Stats{c.accepted.Load(), c.ignored.Load(), c.refused.Load(), c.tooLarge.Load(), c.unavailable.Load(), c.bytes.Load()}
}

// Run opens the spool, calls work for its lane and receives requests, until ctx
// is done.
func (s *Source) Run(ctx context.Context, work func(context.Context, *spool.Lane) error) error {
	return spool.Serve(ctx, s.config.Spool, work, func(ctx context.Context, sp *spool.Spool) error {
		s.use(sp)
		defer s.use(nil)
		return s.config.Hub.serve(ctx, s)
	})
}

// use takes a spool into use or, if it is nil, waits until none is used.
func (s *Source) use(sp *spool.Spool) {
	s.open.Lock()
	defer s.open.Unlock()
	s.spool = sp
}

// append makes a request durable.
func (s *Source) append(body []byte) error {
	s.open.RLock()
	defer s.open.RUnlock()
	if s.spool == nil {
		return errStopped
	}
	return s.spool.Append(spool.Record{Text: body})
}

var (
	errStopped  = errors.New("the source is not running")
	errBusy     = errors.New("too much is being received at once")
	errTooLarge = errors.New("the request is larger than the limit")
	errEncoding = errors.New("the content encoding is not known; use gzip or none")
	errBody     = errors.New("the request cannot be read")
)

// ServeHTTP takes one request.
func (s *Source) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodPost:
	case http.MethodHead: // a provider looks whether somebody is here
		return
	default:
		w.Header().Set("Allow", "HEAD, POST")
		http.Error(w, "events are sent by POST", http.StatusMethodNotAllowed)
		return
	}
	var held int64
	defer func() { s.held.Add(-held) }()
	body, err := []byte(nil), s.check.head(r)
	if err == nil {
		body, err = s.body(w, r, &held)
	}
	if err == nil {
		body, err = s.check.body(r, body)
	}
	keep := len(bytes.TrimSpace(body)) > 0
	if err == nil && keep {
		err = s.append(body)
	}
	var large *http.MaxBytesError
	switch {
	case err == nil && keep:
		s.stats.accepted.Add(1)
		s.stats.bytes.Add(int64(len(body)))
	case err == nil:
		s.stats.ignored.Add(1)
	case errors.Is(err, errProof):
		s.stats.refused.Add(1)
		s.note(slog.LevelWarn, "requests are refused", err)
		if s.config.Verify == Basic {
			w.Header().Set("WWW-Authenticate", `Basic realm="events"`)
		}
		http.Error(w, errProof.Error(), http.StatusUnauthorized)
	case errors.Is(err, errTooLarge), errors.As(err, &large):
		s.stats.tooLarge.Add(1)
		s.note(slog.LevelError, "requests are too large; raise max_body_bytes, or let the provider send fewer events at once", errTooLarge)
		http.Error(w, errTooLarge.Error(), http.StatusRequestEntityTooLarge)
	case errors.Is(err, errEncoding):
		s.stats.refused.Add(1)
		http.Error(w, err.Error(), http.StatusUnsupportedMediaType)
	case errors.Is(err, errBody):
		s.stats.refused.Add(1)
		http.Error(w, errBody.Error(), http.StatusBadRequest)
	default:
		s.stats.unavailable.Add(1)
		s.note(slog.LevelError, "requests cannot be stored; their senders are asked to send them again", err)
		w.Header().Set("Retry-After", retryAfter)
		http.Error(w, "try again later", http.StatusServiceUnavailable)
	}
}

// body reads and unpacks the body of r. What it takes of memory is reserved in
// held as it comes, so that slow clients hold no more than they have sent.
func (s *Source) body(w http.ResponseWriter, r *http.Request, held *int64) ([]byte, error) {
	var in io.Reader = http.MaxBytesReader(w, r.Body, int64(s.config.MaxBody))
	switch strings.ToLower(r.Header.Get("Content-Encoding")) {
	case "", "identity":
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errBody, err)
		}
		in = z
	default:
		return nil, errEncoding
	}
	var b []byte
	for {
		if len(b) == cap(b) {
			more := min(max(4<<10, cap(b)), s.config.MaxBody+1-len(b))
			if s.held.Add(int64(more)) > inFlight {
				s.held.Add(-int64(more))
				return nil, errBusy
			}
			*held += int64(more)
			b = slices.Grow(b, more)[: len(b) : len(b)+more]
		}
		n, err := in.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case len(b) > s.config.MaxBody:
			return nil, errTooLarge
		case errors.Is(err, io.EOF):
			return b, nil
		case err != nil:
			return nil, fmt.Errorf("%w: %w", errBody, err)
		}
	}
}

// note logs what keeps happening, but not each time.
func (s *Source) note(level slog.Level, message string, err error) {
	s.noteMu.Lock()
	defer s.noteMu.Unlock()
	s.unnoted++
	if now := time.Now(); now.Sub(s.noted) >= nag {
		s.config.Log.Log(context.Background(), level, message, "path", s.config.Path, "requests", s.unnoted, "err", err) //nolint:sloglint // one of three constant messages
		s.noted, s.unnoted = now, 0
	}
}
