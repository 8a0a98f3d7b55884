package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// How a lease is watched. Its holder finds a lost connection within beat and
// answer; others ask each beat. The server ends the connection of a machine
// that is gone about 10 s after it was last heard of, and with it the lock.
const (
	beat   = time.Second
	answer = 3 * time.Second
)

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
	for {
		c, err := l.tryLease(ctx)
		if err != nil && !unreachable(err) {
			return nil, nil, l.fault("lease", err)
		}
		if c != nil {
			lease, release := l.hold(ctx, c)
			return lease, release, nil
		}
		select {
		case <-l.closing:
			return nil, nil, fmt.Errorf("%s: lease: %w", l.name, fs.ErrClosed)
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("%s: lease: %w", l.name, ctx.Err())
		case <-tick.C:
		}
	}
}

// unreachable reports whether err may be over in a while without anybody's help.
func unreachable(err error) bool {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code[:2] == "08" || e.Code[:3] == "57P" || e.Code == "53300"
	}
	return !errors.Is(err, context.Canceled) && !errors.Is(err, fs.ErrClosed)
}

// tryLease returns a connection that holds the lock, or nil if another does.
func (l *Ledger) tryLease(ctx context.Context) (*pgx.Conn, error) {
	select {
	case <-l.closing:
		return nil, fs.ErrClosed
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	config := l.pool.config.Copy()
	for name, value := range map[string]string{
		"tcp_keepalives_idle": "3", "tcp_keepalives_interval": "2", "tcp_keepalives_count": "3", "tcp_user_timeout": "9000",
		"statement_timeout": "5000", "application_name": "bouncemeter lease",
	} {
		config.RuntimeParams[name] = value
	}
	c, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	var ours bool
	if err := c.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", l.locks.detection).Scan(&ours); err != nil || !ours {
		hangUp(&conn{Conn: c})
		return nil, err
	}
	return c, nil
}

// hold watches the connection until the lease is over.
func (l *Ledger) hold(ctx context.Context, c *pgx.Conn) (lease context.Context, release func()) {
	lease, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	l.work.Add(1)
	go func() {
		defer l.work.Done()
		defer close(done)
		defer hangUp(&conn{Conn: c})
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
