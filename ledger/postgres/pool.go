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

// conn is a connection and when it was used last.
type conn struct {
	*pgx.Conn
	used time.Time
}

// pool is a number of connections that are made when they are needed.
type pool struct {
	config *pgx.ConnConfig
	// idle has those that nobody uses; a nil one is not connected.
	idle chan *conn
	size int
	once sync.Once
}

func newPool(config *pgx.ConnConfig, size int) *pool {
	p := &pool{config: config, idle: make(chan *conn, size), size: size}
	for range size {
		p.idle <- nil
	}
	return p
}

// What a connection that was idle for longer may have become nobody knows: it
// is asked first, and replaced if it does not answer soon.
const (
	trusted = 30 * time.Second
	soon    = 5 * time.Second
)

func (p *pool) get(ctx context.Context) (*conn, error) {
	var c *conn
	var open bool
	select {
	case c, open = <-p.idle:
		if !open {
			return nil, fs.ErrClosed
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c != nil && !c.IsClosed() && time.Since(c.used) > trusted {
		ping, cancel := context.WithTimeout(ctx, soon)
		_ = c.Ping(ping) // closes it on failure
		cancel()
	}
	if c == nil || c.IsClosed() {
		made, err := pgx.ConnectConfig(ctx, p.config)
		if err != nil {
			p.idle <- nil
			return nil, err
		}
		c = &conn{Conn: made}
	}
	return c, nil
}

func (p *pool) put(c *conn) {
	c.used = time.Now()
	p.idle <- c
}

// forget closes the connections that nobody uses: after one was lost the others
// are lost too, most likely.
func (p *pool) forget() {
	for range p.size {
		select {
		case c, open := <-p.idle:
			if !open {
				return
			}
			c.hangUp()
			p.idle <- nil
		default:
			return
		}
	}
}

// hangUp ends the connection; a nil one is none.
func (c *conn) hangUp() {
	if c != nil {
		hangUp(c.Conn)
	}
}

// hangUp ends a connection; a nil one is none.
func hangUp(c *pgx.Conn) {
	if c == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	_ = c.Close(ctx) // the server notices either way
}

// close waits for what is under way.
func (p *pool) close() {
	p.once.Do(func() {
		for range p.size {
			(<-p.idle).hangUp()
		}
		close(p.idle)
	})
}

// tries is how often a write is tried before its error is the caller's.
const tries = 3

// write runs f in a transaction. It is tried again at once if a connection that
// had been there was lost, or the server asks for it; f must bear that: each
// transaction of this package recognises that it had been applied.
func (l *Ledger) write(ctx context.Context, doing string, f func(ctx context.Context, tx pgx.Tx) error) error {
	if l.readOnly {
		return fmt.Errorf("%s: %s: it is open for reading only", l.name, doing)
	}
	var err error
	for range tries {
		var again bool
		if again, err = l.try(ctx, pgx.TxOptions{}, f); !again {
			break
		}
	}
	return l.fault(doing, err)
}

// read runs f in a transaction that sees one state of the ledger.
func (l *Ledger) read(ctx context.Context, doing string, f func(ctx context.Context, tx pgx.Tx) error) error {
	var err error
	for range tries {
		began := false
		var again bool
		again, err = l.try(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(ctx context.Context, tx pgx.Tx) error {
			began = true
			return f(ctx, tx)
		})
		if !again || began { // f may have yielded rows
			break
		}
	}
	return l.fault(doing, err)
}

// try runs f once and reports whether it makes sense to try again.
func (l *Ledger) try(ctx context.Context, o pgx.TxOptions, f func(ctx context.Context, tx pgx.Tx) error) (again bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	c, err := l.pool.get(ctx)
	if err != nil {
		return false, err
	}
	defer l.pool.put(c)
	err = transact(ctx, c.Conn, l.timeout, o, f)
	if err == nil || ctx.Err() != nil {
		return false, err
	}
	if c.IsClosed() {
		l.pool.forget()
		return true, err
	}
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code == "40001" || e.Code == "40P01"), err // serialization failure, deadlock
}

// transact runs f in one transaction of c. The server ends a statement that
// takes longer than timeout; if it does not even answer, the connection is given
// up a little later.
func transact(ctx context.Context, c *pgx.Conn, timeout time.Duration, o pgx.TxOptions, f func(ctx context.Context, tx pgx.Tx) error) error {
	whole := ctx
	ctx, cancel := context.WithTimeoutCause(ctx, 2*timeout+soon, errors.New("the server does not answer"))
	defer cancel()
	err := pgx.BeginTxFunc(ctx, c, o, func(tx pgx.Tx) error { return f(ctx, tx) })
	if err != nil && ctx.Err() != nil && whole.Err() == nil {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}
