package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"

	engine "modernc.org/sqlite"

	"github.com/bouncemeter/bouncemeter/internal/failpoint"
)

// conn is one connection. It is used by one goroutine at a time. It talks to
// the driver itself, without database/sql, because a ledger needs one writer
// that is always the same connection and reads of a million rows.
type conn struct {
	c driver.Conn
	// stmts holds every statement that was ever run, prepared: their texts are
	// constants of this package, so there are few.
	stmts map[string]*stmt
}

// value is an int64, string, []byte, float64 or nil.
type value = driver.Value

type stmt struct {
	s    driver.Stmt
	args []driver.NamedValue // reused
	row  []value             // reused
}

// connect opens the file at path, which must exist, and applies the pragmas.
func connect(path, mode string, pragmas ...string) (*conn, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	dsn := url.URL{Scheme: "file", Path: abs, RawQuery: "mode=" + mode}
	dc, err := new(engine.Driver).Open(dsn.String())
	if err != nil {
		return nil, err
	}
	c := &conn{c: dc, stmts: make(map[string]*stmt)}
	for _, p := range pragmas {
		if err := c.script("PRAGMA " + p); err != nil {
			_ = c.close()
			return nil, err
		}
	}
	return c, nil
}

func (c *conn) close() error {
	var errs []error
	for _, s := range c.stmts {
		errs = append(errs, s.s.Close())
	}
	return errors.Join(append(errs, c.c.Close())...)
}

// script runs any number of statements without parameters, once.
func (c *conn) script(text string) error {
	_, err := c.c.(driver.ExecerContext).ExecContext(context.Background(), text, nil)
	return err
}

func (c *conn) prepare(text string) (*stmt, error) {
	if s := c.stmts[text]; s != nil {
		return s, nil
	}
	ds, err := c.c.Prepare(text)
	if err != nil {
		return nil, err
	}
	s := &stmt{s: ds}
	c.stmts[text] = s
	return s, nil
}

// bind makes room for n arguments.
func (s *stmt) bind(n int) []driver.NamedValue {
	for len(s.args) < n {
		s.args = append(s.args, driver.NamedValue{Ordinal: len(s.args) + 1})
	}
	return s.args[:n]
}

func (s *stmt) exec(args []driver.NamedValue) (changed int64, err error) {
	// No context: it would cost a goroutine for each statement. A transaction
	// is short, and is not begun once its context is done.
	r, err := s.s.(driver.StmtExecContext).ExecContext(context.Background(), args)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// exec runs one statement and returns how many rows it changed.
func (c *conn) exec(text string, args ...value) (changed int64, err error) {
	s, err := c.prepare(text)
	if err != nil {
		return 0, err
	}
	bound := s.bind(len(args))
	for i, a := range args {
		bound[i].Value = a
	}
	return s.exec(bound)
}

// query runs one statement and yields its rows. A row is valid during the call
// only; yield must not run the same statement.
func (c *conn) query(ctx context.Context, text string, yield func(row []value) error, args ...value) (err error) {
	s, err := c.prepare(text)
	if err != nil {
		return err
	}
	bound := s.bind(len(args))
	for i, a := range args {
		bound[i].Value = a
	}
	rows, err := s.s.(driver.StmtQueryContext).QueryContext(ctx, bound)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	if s.row == nil {
		s.row = make([]value, len(rows.Columns()))
	}
	done := ctx.Done()
	for n := 0; ; n++ {
		if n&1023 == 0 && done != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		if err := rows.Next(s.row); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := yield(s.row); err != nil {
			return err
		}
	}
}

// integer returns the first column of the first row, or none if there is no
// row or it is null.
func (c *conn) integer(text string, none int64, args ...value) (int64, error) {
	v := none
	err := c.query(context.Background(), text, func(row []value) error {
		if n, ok := row[0].(int64); ok {
			v = n
		}
		return nil
	}, args...)
	return v, err
}

// transaction runs f between BEGIN and COMMIT. If it returns an error nothing
// was applied, except that a COMMIT that fails may have been.
func (c *conn) transaction(f func() error) error {
	if _, err := c.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	failpoint.TransactionBegun.Hit()
	err := f()
	if err == nil {
		_, err = c.exec("COMMIT")
		failpoint.TransactionCommitted.Hit()
	}
	if err != nil {
		// Some errors, such as a full disk, have already ended the transaction;
		// then this one says so, which is no news.
		_, _ = c.exec("ROLLBACK")
	}
	return err
}

// snapshot runs f in a transaction that reads one state of the ledger.
func (c *conn) snapshot(f func() error) error {
	if _, err := c.exec("BEGIN"); err != nil {
		return err
	}
	defer func() { _, _ = c.exec("ROLLBACK") }()
	return f()
}

// bulk is an INSERT of many rows: one statement for every 128 rows is twice as
// fast as one for each.
type bulk struct {
	width int
	texts [len(bulkSizes)]string
}

var bulkSizes = [...]int{128, 16, 1}

// newBulk builds the statements from what comes before VALUES, the number of
// columns, and what comes after.
func newBulk(head string, width int, tail string) *bulk {
	b := &bulk{width: width}
	tuple := "(?" + strings.Repeat(",?", width-1) + ")"
	for i, n := range bulkSizes {
		b.texts[i] = fmt.Sprintf("%s VALUES %s%s %s", head, tuple, strings.Repeat(","+tuple, n-1), tail)
	}
	return b
}

// insert runs b for n rows; fill sets the columns of row i.
func (c *conn) insert(b *bulk, n int, fill func(i int, row []driver.NamedValue)) error {
	for i, size := 0, 0; i < n; {
		for n-i < bulkSizes[size] {
			size++
		}
		s, err := c.prepare(b.texts[size])
		if err != nil {
			return err
		}
		args := s.bind(bulkSizes[size] * b.width)
		for k := range bulkSizes[size] {
			fill(i+k, args[k*b.width:][:b.width])
		}
		if _, err := s.exec(args); err != nil {
			return err
		}
		i += bulkSizes[size]
	}
	return nil
}
