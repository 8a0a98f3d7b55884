package postgres

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// How a lease is watched. Its holder asks each beat and finds a lost connection
// within beat and answer; others ask for the lock each beat. The server ends a
// connection that has been silent for longer than silence, and with it the lock:
// that of a process that is stopped, of a machine that is gone or cut off, and
// that of a server's own packets which nobody acknowledges.
const (
	beat    = time.Second
	answer  = 3 * time.Second
	silence = 5 * time.Second
)

// leaseParameters are those of the connections that leases are asked for on.
func leaseParameters() map[string]string {
	return map[string]string{
		"application_name":  "bouncemeter lease",
		"statement_timeout": "5000", "idle_session_timeout": strconv.FormatInt(silence.Milliseconds(), 10),
		"tcp_keepalives_idle": "2", "tcp_keepalives_interval": "1", "tcp_keepalives_count": "3", "tcp_user_timeout": strconv.FormatInt(silence.Milliseconds(), 10),
	}
}

// Lease waits until no other process and no other caller holds the lease of
// this ledger, also while the server cannot be reached. The context it returns
// ends with ctx, with release, when the ledger is closed, and when the
// connection that holds the lock is lost. For a few seconds after that the old
// holder may not know: CommitDetector refuses what it does then.
func (l *Ledger) Lease(ctx context.Context) (lease context.Context, release func(), err error) {
	if l.readOnly {
		return nil, nil, fmt.Errorf("%s: lease: it is open for reading only", l.name)
	}
	tick := time.NewTicker(beat)
	defer tick.Stop()
	var c *pgx.Conn // nil while not connected
	for {
		select {
		case <-l.closing:
			hangUp(c)
			return nil, nil, fmt.Errorf("%s: lease: %w", l.name, fs.ErrClosed)
		default:
		}
		ours := false
		if c, ours, err = l.tryLease(ctx, c); ours {
			lease, release := l.hold(ctx, c)
			return lease, release, nil
		}
		if err != nil && ctx.Err() == nil && !Temporary(err) {
			return nil, nil, l.fault("lease", err)
		}
		select {
		case <-l.closing:
			hangUp(c)
			return nil, nil, fmt.Errorf("%s: lease: %w", l.name, fs.ErrClosed)
		case <-ctx.Done():
			hangUp(c)
			return nil, nil, fmt.Errorf("%s: lease: %w", l.name, ctx.Err())
		case <-tick.C:
		}
	}
}

// tryLease asks for the lock on c, or on a new connection if that is nil. It
// returns the connection to ask on again, nil after an error.
func (l *Ledger) tryLease(ctx context.Context, c *pgx.Conn) (_ *pgx.Conn, ours bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if c == nil {
		config := l.pool.config.Copy()
		maps.Copy(config.RuntimeParams, leaseParameters())
		if c, err = pgx.ConnectConfig(ctx, config); err != nil {
			return nil, false, err
		}
	}
	if err := c.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", l.locks.detection).Scan(&ours); err != nil {
		hangUp(c)
		return nil, false, err
	}
	return c, ours, nil
}

// hold watches the connection until the lease is over.
func (l *Ledger) hold(ctx context.Context, c *pgx.Conn) (lease context.Context, release func()) {
	lease, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	l.work.Add(1)
	go func() {
		defer l.work.Done()
		defer close(done)
		defer hangUp(c)
		tick := time.NewTicker(beat)
		defer tick.Stop()
		for {
			select {
			case <-lease.Done():
				return
			case <-l.closing:
				cancel(fs.ErrClosed)
				return
			case <-tick.C:
			}
			ask, stop := context.WithTimeout(lease, answer)
			err := c.Ping(ask)
			stop()
			if err != nil {
				cancel(fmt.Errorf("%s: the lease is lost: %w", l.name, oneLine{err}))
				return
			}
		}
	}()
	return lease, sync.OnceFunc(func() {
		cancel(context.Canceled)
		<-done
	})
}
