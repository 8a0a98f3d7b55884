package notify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Classes of errors, for metrics.
const (
	classLedger     = "ledger"
	classTimeout    = "timeout"
	classDNS        = "dns"
	classConnection = "connection"
	classTLS        = "tls"
	classStatus     = "status" // HTTP
	classRefused    = "refused"
	classOther      = "other"
)

// refusedError is that of Refused.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

// Refused marks err as final: the receiver will never take what it was given.
func Refused(err error) error { return &refusedError{err} }

func isRefused(err error) bool {
	_, ok := errors.AsType[*refusedError](err)
	return ok
}

// statusError is an HTTP answer other than success.
type statusError struct {
	code  int
	body  string // cleaned and capped
	after time.Duration
}

func (e *statusError) Error() string {
	if e.body == "" {
		return fmt.Sprintf("it answered %d", e.code)
	}
	return fmt.Sprintf("it answered %d: %s", e.code, e.body)
}

// retryAfter is how long the receiver asked to wait.
func retryAfter(err error) time.Duration {
	if e, ok := errors.AsType[*statusError](err); ok {
		return e.after
	}
	return 0
}

// class names the kind of err.
func class(err error) string {
	if err == nil {
		return ""
	}
	if isRefused(err) {
		return classRefused
	}
	if _, ok := errors.AsType[*statusError](err); ok {
		return classStatus
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return classDNS
	}
	if e, ok := errors.AsType[net.Error](err); errors.Is(err, context.DeadlineExceeded) || ok && e.Timeout() {
		return classTimeout
	}
	if isTLS(err) {
		return classTLS
	}
	if _, ok := errors.AsType[*net.OpError](err); ok || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return classConnection
	}
	return classOther
}

func isTLS(err error) bool {
	_, verify := errors.AsType[*tls.CertificateVerificationError](err)
	_, record := errors.AsType[tls.RecordHeaderError](err)
	_, alert := errors.AsType[tls.AlertError](err)
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	return verify || record || alert || unknown || errors.Is(err, errNoTLS)
}
