package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/internal/counts"
)

// fault says what went wrong where and what to do about it, in one line. It
// tells host, database and user, and never the password.
func (l *Ledger) fault(doing string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, counts.ErrMissing) {
		return fmt.Errorf("%w: %s: %s: put back a backup: %w", ledger.ErrCorrupt, l.name, doing, err)
	}
	remedy := ""
	var e *pgconn.PgError
	var connect *pgconn.ConnectError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &e):
		remedy = remedies[e.Code]
		switch {
		case e.Code == "XX001" || e.Code == "XX002": // data or index corrupted
			return fmt.Errorf("%w: %s: %s: look at the server's disk and put back a backup: %w", ledger.ErrCorrupt, l.name, doing, oneLine{err})
		case remedy == "" && (strings.HasPrefix(e.Code, "08") || strings.HasPrefix(e.Code, "57P")):
			remedy = "the server is stopping or starting: it is tried again"
		}
	case errors.As(err, &certificate):
		remedy = "the server's certificate is not trusted: name the authority as sslrootcert in the DSN, and the server as the certificate does"
	case errors.As(err, &connect) && strings.Contains(err.Error(), "server refused TLS connection"):
		remedy = "the server speaks no TLS: let it, or give sslmode=disable in the DSN if the network may be trusted"
	case errors.As(err, &connect):
		remedy = "check that the server runs, and the DSN's host and port"
	}
	if remedy != "" {
		remedy += ": "
	}
	return fmt.Errorf("%s: %s: %s%w", l.name, doing, remedy, oneLine{err})
}

// Temporary reports whether what failed may go on in a while without anybody's
// help: the server is away, starting or stopping, or has no connection left.
func Temporary(err error) bool {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return strings.HasPrefix(e.Code, "08") || strings.HasPrefix(e.Code, "57P") || e.Code == "53300"
	}
	var certificate *tls.CertificateVerificationError
	var connect *pgconn.ConnectError
	var network net.Error
	switch {
	case errors.As(err, &certificate), errors.Is(err, context.Canceled), errors.Is(err, fs.ErrClosed):
		return false
	}
	return errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, context.DeadlineExceeded) || pgconn.SafeToRetry(err)
}

// remedies are what to do about errors, by their SQLSTATE.
var remedies = map[string]string{
	"28P01": "the password is wrong: correct the DSN",
	"28000": "the server does not let this user in: look at its pg_hba.conf, and the DSN's user and sslmode",
	"3D000": "there is no such database: create it, or correct the DSN",
	"3F000": "the schema is missing: create it, as docs/ledger.md says",
	"42501": "the role lacks a right: grant it, as docs/ledger.md says",
	"53100": "the server's disk is full, nothing was stored: make room",
	"53300": "the server has no connection left: raise its max_connections",
	"57014": "the statement took too long: look at the server's load",
	"25006": "the server is a standby, or read-only: give the primary, or several hosts with target_session_attrs=read-write",
}

// oneLine prints an error in one line: some of the driver's have several.
type oneLine struct{ error }

func (e oneLine) Error() string {
	text := e.error.Error()
	var connect *pgconn.ConnectError
	if errors.As(e.error, &connect) {
		text = strings.Replace(text, connect.Error(), attempts(connect), 1)
	}
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\t' }), " ")
}

func (e oneLine) Unwrap() error { return e.error }

// attempts says why a server could not be reached. The driver has an error for
// each address of a host, often the same for IPv4 and IPv6, and for each sslmode
// that it tries; each cause is told once, with the addresses that it holds for.
func attempts(connect *pgconn.ConnectError) string {
	tries := []error{connect.Unwrap()}
	if joined, ok := connect.Unwrap().(interface{ Unwrap() []error }); ok {
		tries = joined.Unwrap()
	}
	var causes []string
	addresses := make(map[string][]string) // by cause
	for _, try := range tries {
		cause, address := try.Error(), ""
		var op *net.OpError
		if errors.As(try, &op) && op.Addr != nil {
			cause, address = op.Err.Error(), op.Addr.String()
		}
		if !slices.Contains(causes, cause) {
			causes = append(causes, cause)
		}
		if address != "" && !slices.Contains(addresses[cause], address) {
			addresses[cause] = append(addresses[cause], address)
		}
	}
	for i, cause := range causes {
		if at := addresses[cause]; len(at) > 0 {
			causes[i] = strings.Join(at, " and ") + ": " + cause
		}
	}
	return fmt.Sprintf("failed to connect as user=%s to database=%s: %s", connect.Config.User, connect.Config.Database, strings.Join(causes, "; "))
}

// writeDSN is how a DSN is written.
const writeDSN = "write postgres://user:password@host:5432/database?sslmode=verify-full " +
	"with special characters of the password percent-encoded, or key=value pairs"

// badDSN says that a DSN cannot be understood. The parser's own words may have
// parts of it, the password too, so all they may tell is a file.
func badDSN(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return fmt.Errorf("the DSN names a file that cannot be read: %w", path)
	}
	return errors.New("the DSN cannot be understood; " + writeDSN)
}
