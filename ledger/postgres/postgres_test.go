package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/ledgertest"
	"github.com/bouncemeter/bouncemeter/ledger/postgres"
	"github.com/bouncemeter/bouncemeter/pipeline"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
	"github.com/bouncemeter/bouncemeter/test/postgrestest"
)

var (
	_ pipeline.Ledger      = (*postgres.Ledger)(nil)
	_ pipeline.AlertLedger = (*postgres.Ledger)(nil)
)

// server is a real PostgreSQL; each ledger has a schema of its own in it.
type server struct {
	*postgrestest.Server
	schemas atomic.Int64
}

// newSchema returns the name of a schema that does not exist yet.
func (s *server) newSchema() string { return fmt.Sprintf("test_%d", s.schemas.Add(1)) }

func (s *server) execute(t testing.TB, statements ...string) {
	t.Helper()
	ctx := context.Background() // also after the test
	c, err := pgx.Connect(ctx, s.OwnerDSN())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(ctx) }()
	for _, statement := range statements {
		if _, err := c.Exec(ctx, statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

func (s *server) open(t testing.TB, schema string) *postgres.Ledger {
	t.Helper()
	l, err := postgres.Open(context.Background(), s.OwnerDSN(), postgres.Options{Schema: schema, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// grants are the statements of docs/ledger.md that grant the daemon's rights,
// for this schema and role.
func grants(t testing.TB, schema, role string) []string {
	t.Helper()
	b, err := os.ReadFile("../../docs/ledger.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(string(b)) {
		statement := strings.TrimSuffix(strings.TrimSpace(line), ";")
		if !strings.HasPrefix(statement, "GRANT ") || !strings.HasSuffix(statement, " TO meter") {
			continue
		}
		statement = strings.TrimSuffix(statement, "meter") + role
		if before, ok := strings.CutSuffix(statement, " SCHEMA bouncemeter TO "+role); ok {
			statement = before + " SCHEMA " + schema + " TO " + role
		}
		all = append(all, strings.ReplaceAll(statement, "bouncemeter.", schema+"."))
	}
	if len(all) < 3 {
		t.Fatalf("docs/ledger.md grants only %q", all)
	}
	return all
}

// TestServer runs against a real PostgreSQL; see test/postgrestest.
func TestServer(t *testing.T) {
	s := &server{Server: postgrestest.Start(t, "fsync=off", "wal_level=minimal", "max_wal_senders=0")}
	s.execute(t, "CREATE ROLE meter LOGIN PASSWORD 'sour-pear'", "CREATE ROLE reader LOGIN PASSWORD 'bitter-nut'")
	meter := s.DSN("meter", "sour-pear")

	// The contract, by a role that has only the rights that docs/ledger.md grants,
	// and every other time in roll-ups of a row or two.
	t.Run("contract", func(t *testing.T) {
		stores := 0
		ledgertest.Run(t, func(t *testing.T) ledgertest.Open {
			schema := s.newSchema()
			o := postgres.Options{Schema: schema, Connections: 4}
			if stores++; stores%2 == 0 {
				o = postgres.WithChunk(o, 1)
			}
			s.open(t, schema) // makes the schema
			s.execute(t, grants(t, schema, "meter")...)
			return func() (ledgertest.Ledger, error) { return postgres.Open(t.Context(), meter, o) }
		})
	})

	t.Run("refusals", func(t *testing.T) {
		there := s.newSchema()
		s.open(t, there)
		newer := s.newSchema()
		s.open(t, newer)
		s.execute(t, "INSERT INTO "+newer+".schema_versions VALUES (1000, 0)")
		other := s.newSchema()
		s.execute(t, "CREATE SCHEMA "+other, "CREATE TABLE "+other+".lanes (x int)")
		upgraded := s.newSchema() // and the rights of before
		s.open(t, upgraded)
		s.execute(t, append(grants(t, upgraded, "meter"), "REVOKE ALL ON "+upgraded+".silences FROM meter")...)
		s.execute(t, "CREATE ROLE half LOGIN PASSWORD 'x'", "GRANT USAGE ON SCHEMA "+there+" TO half", "GRANT SELECT ON ALL TABLES IN SCHEMA "+there+" TO half")
		s.execute(t, "CREATE ROLE readonly LOGIN SUPERUSER PASSWORD 'x'", "ALTER ROLE readonly SET default_transaction_read_only = on")
		free, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		nobody := strings.Replace(s.OwnerDSN(), fmt.Sprint(s.Port), fmt.Sprint(free.Addr().(*net.TCPAddr).Port), 1)
		_ = free.Close()
		for _, c := range []struct {
			name, dsn, schema string
			want              string // of the error
			temporary         bool
		}{
			{"nobody listens", nobody, there, "check that the server runs, and the DSN's host and port", true},
			{"wrong password", s.DSN(postgrestest.Owner, "not-it"), there, "the password is wrong: correct the DSN", false},
			{"no TLS", strings.Replace(s.OwnerDSN(), "disable", "require", 1), there, "the server speaks no TLS", true},
			{"no database", strings.Replace(s.OwnerDSN(), "/postgres?", "/mail?", 1), there, "there is no such database", false},
			{"no schema", meter, s.newSchema(), "the role may not create one in this database: create it, as docs/ledger.md says", false},
			{"rights are missing", s.DSN("half", "x"), there, "INSERT, UPDATE, DELETE on count_days;", false},
			{"rights on a new table are missing", meter, upgraded, "the role lacks SELECT, INSERT, UPDATE, DELETE on silences: grant it, as docs/ledger.md says", false},
			{"no rights", meter, there, "the role lacks USAGE on the schema: grant it, as docs/ledger.md says", false},
			{"read-only", s.DSN("readonly", "x"), there, "set its default_transaction_read_only to off", false},
			{"of a newer version", s.OwnerDSN(), newer, "a newer bouncemeter has used it", false},
			{"another program's", s.OwnerDSN(), other, "give ledger.postgres.schema a name of its own", false},
		} {
			t.Run(c.name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				l, err := postgres.Open(ctx, c.dsn, postgres.Options{Schema: c.schema})
				if err == nil {
					t.Fatal("it opens", l.Close())
				}
				if !strings.Contains(err.Error(), c.want) || strings.ContainsAny(err.Error(), "\n\t") {
					t.Errorf("the error is %q, want one line with %q", err, c.want)
				}
				if postgres.Temporary(err) != c.temporary {
					t.Errorf("temporary is %v of %v", !c.temporary, err)
				}
				u, err2 := url.Parse(c.dsn)
				if err2 != nil {
					t.Fatal(err2)
				}
				if password, _ := u.User.Password(); len(password) > 1 && strings.Contains(err.Error(), password) {
					t.Errorf("the error tells the password: %v", err)
				}
				if err := postgres.Check(ctx, c.dsn, postgres.Options{Schema: c.schema}); err == nil {
					t.Error("Check finds nothing wrong")
				}
			})
		}
		t.Run("standby", func(t *testing.T) {
			s := &server{Server: postgrestest.Start(t, "fsync=off")}
			schema := s.newSchema()
			s.open(t, schema)
			s.Demote(t)
			if l, err := postgres.Open(t.Context(), s.OwnerDSN(), postgres.Options{Schema: schema}); err == nil {
				t.Error("it opens", l.Close())
			} else if !strings.Contains(err.Error(), "the server is a standby: give the primary, or several hosts with target_session_attrs=read-write") {
				t.Errorf("the error is %q", err)
			}
			l, err := postgres.OpenReadOnly(t.Context(), s.OwnerDSN(), postgres.Options{Schema: schema})
			if err != nil {
				t.Fatal("a reader needs no primary:", err)
			}
			defer func() { _ = l.Close() }()
			if _, err := l.Query(t.Context(), ledger.Query{By: []ledger.Dimension{ledger.ByOutcome}}); err != nil {
				t.Error(err)
			}
		})
		if err := postgres.Check(t.Context(), s.OwnerDSN(), postgres.Options{Schema: s.newSchema()}); err != nil {
			t.Errorf("a schema that will be made: %v", err)
		}
		if err := postgres.Check(t.Context(), s.OwnerDSN(), postgres.Options{Schema: there}); err != nil {
			t.Errorf("a schema that is there: %v", err)
		}
	})

	t.Run("readers need SELECT only", func(t *testing.T) {
		schema := s.newSchema()
		s.open(t, schema)
		s.execute(t, "GRANT USAGE ON SCHEMA "+schema+" TO reader", "GRANT SELECT ON ALL TABLES IN SCHEMA "+schema+" TO reader")
		l, err := postgres.OpenReadOnly(t.Context(), s.DSN("reader", "bitter-nut"), postgres.Options{Schema: schema})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		if _, err := l.Query(t.Context(), ledger.Query{By: []ledger.Dimension{ledger.ByOutcome}}); err != nil {
			t.Error(err)
		}
		if _, err := l.Lane(t.Context(), "a", "b"); err == nil || !strings.Contains(err.Error(), "reading only") {
			t.Errorf("it writes: %v", err)
		}
	})

	// Many instances start at once on an empty database.
	t.Run("migrated by one", func(t *testing.T) {
		schema := s.newSchema()
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() { s.open(t, schema) })
		}
		all.Wait()
	})

	t.Run("lease", func(t *testing.T) { s.testLease(t) })
	t.Run("a stopped commit", func(t *testing.T) { s.testStoppedCommit(t) })
	t.Run("restart", func(t *testing.T) { s.testRestart(t) })
}

// testLease takes the lease away from a process that is cut off from the server
// without either noticing at first: its machine is gone, or it is stopped.
func (s *server) testLease(t *testing.T) {
	schema := s.newSchema()
	w := newWire(t, fmt.Sprintf("127.0.0.1:%d", s.Port))
	dsn := strings.Replace(s.OwnerDSN(), fmt.Sprintf("127.0.0.1:%d", s.Port), w.address, 1)
	holder, err := postgres.Open(t.Context(), dsn, postgres.Options{Schema: schema})
	if err != nil {
		t.Fatal(err)
	}
	lease, _, err := holder.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	standby := s.open(t, schema)
	took := make(chan time.Time, 1)
	go func() {
		if _, _, err := standby.Lease(context.Background()); err != nil {
			t.Error(err)
		}
		took <- time.Now()
	}()
	select {
	case <-took:
		t.Fatal("two hold the lease")
	case <-time.After(2500 * time.Millisecond): // longer than some beats
	}
	cut := time.Now()
	w.cut()
	if took := (<-took).Sub(cut); took > 10*time.Second {
		t.Errorf("the lease was taken over after %v, want 10 s at most", took)
	} else {
		t.Logf("the lease was taken over after %v", took)
	}
	select {
	case <-lease.Done():
	case <-time.After(10 * time.Second):
		t.Error("the old holder does not notice")
	}
	w.close() // or it would wait for answers
	if err := holder.Close(); err != nil {
		t.Error(err)
	}
}

// A wire is a connection to a server that can be cut without either side being
// told.
type wire struct {
	address string
	mu      sync.Mutex
	dead    bool
	ends    []net.Conn
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{address: l.Addr().String()}
	t.Cleanup(func() {
		_ = l.Close()
		w.close()
	})
	forward := func(to, from net.Conn) {
		buffer := make([]byte, 32<<10)
		for {
			n, err := from.Read(buffer)
			w.mu.Lock()
			dead := w.dead
			w.mu.Unlock()
			if dead {
				return
			}
			if err == nil {
				_, err = to.Write(buffer[:n])
			}
			if err != nil {
				_, _ = to.Close(), from.Close()
				return
			}
		}
	}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp4", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			w.mu.Lock()
			w.ends = append(w.ends, near, far)
			w.mu.Unlock()
			go forward(near, far)
			go forward(far, near)
		}
	}()
	return w
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead = true
}

func (w *wire) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.ends {
		_ = c.Close()
	}
}

// commit moves the lane by one line with one delivery.
func commit(l *postgres.Ledger, lane ledger.Lane, from int64) error {
	return l.Commit(context.Background(), &ledger.Commit{
		Lane: lane.ID, Expected: event.Position{Offset: from}, Position: event.Position{Offset: from + 1}, Now: time.Now(),
		Delta: &window.Delta{
			Counts: []window.Count{{Series: &window.Series{Outcome: event.Delivered, Route: &window.Route{}}, Start: 1_790_000_000, Attempts: 1, Firsts: 1}},
			Lines:  window.Lines{Read: 1},
		},
	})
}

func attempts(t *testing.T, l *postgres.Ledger) (n int64) {
	t.Helper()
	rows, err := l.Query(t.Context(), ledger.Query{By: []ledger.Dimension{ledger.ByOutcome}})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		n += r.Attempts
	}
	return n
}

// testStoppedCommit has a process stopped in the middle of a commit, as by
// SIGSTOP: the lane's next owner gets its row within seconds.
func (s *server) testStoppedCommit(t *testing.T) {
	schema := s.newSchema()
	l := s.open(t, schema)
	lane, err := l.Lane(t.Context(), "events", "topic/0")
	if err != nil {
		t.Fatal(err)
	}
	w := newWire(t, fmt.Sprintf("127.0.0.1:%d", s.Port))
	dsn := strings.Replace(s.OwnerDSN(), fmt.Sprintf("127.0.0.1:%d", s.Port), w.address, 1) +
		"&idle_in_transaction_session_timeout=3000&search_path=" + schema
	stopped, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := stopped.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "UPDATE lanes SET position = 1"); err != nil {
		t.Fatal(err)
	}
	w.cut()
	began := time.Now()
	if err := commit(l, lane, 0); err != nil {
		t.Fatal(err)
	}
	t.Logf("the commit took %v", time.Since(began))
	if n := attempts(t, l); n != 1 {
		t.Errorf("%d attempts, want 1", n)
	}
	w.close()
	_ = stopped.Close(t.Context())
}

// testRestart has the server crash and stop while lanes commit: each commit is
// repeated as the pipeline does, and none counts twice.
func (s *server) testRestart(t *testing.T) {
	schema := s.newSchema()
	l := s.open(t, schema)
	const lanes = 4
	stop := make(chan struct{})
	var failures atomic.Int64
	var done [lanes]int64
	var all sync.WaitGroup
	for i := range lanes {
		lane, err := l.Lane(t.Context(), "events", fmt.Sprint("topic/", i))
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			for n := int64(0); ; n++ {
				for {
					err := commit(l, lane, n)
					if err == nil {
						break
					}
					failures.Add(1)
					if errors.Is(err, ledger.ErrConflict) || !postgres.Temporary(err) {
						t.Errorf("lane %d at %d: %v", i, n, err)
						return
					}
					<-time.After(20 * time.Millisecond)
				}
				done[i] = n + 1
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for round := range 6 {
		<-time.After(300 * time.Millisecond)
		if round%2 == 0 {
			s.Kill(t)
		} else {
			s.Stop(t)
		}
		s.Start(t)
	}
	close(stop)
	all.Wait()
	var want int64
	for _, n := range done {
		want += n
	}
	if n := attempts(t, l); n != want || want < 10 {
		t.Errorf("%d attempts are in the ledger, want %d", n, want)
	}
	t.Logf("%d commits, %d failures", want, failures.Load())
}

// A server that is away has several addresses, and each is tried with and without
// TLS: the cause is told once.
func TestOneCauseIsToldOnce(t *testing.T) {
	var listeners []net.Listener
	for range 2 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, l)
	}
	for _, l := range listeners {
		_ = l.Close()
	}
	one, two := listeners[0].Addr(), listeners[1].Addr()
	_, err := postgres.Open(t.Context(), fmt.Sprintf("postgres://meter@%s,%s/mail?sslmode=prefer", one, two), postgres.Options{})
	want := fmt.Sprintf("check that the server runs, and the DSN's host and port: failed to connect as user=meter to database=mail: "+
		"%s and %s: connect: connection refused", one, two)
	if err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("the error is %v, want its end to be %q", err, want)
	}
	var network net.Error
	if !errors.As(err, &network) || !postgres.Temporary(err) {
		t.Errorf("the cause is lost of %v", err)
	}
}

// A ledger is named by every server that it may be on.
func TestWhere(t *testing.T) {
	for dsn, want := range map[string]string{
		"postgres://meter@a.example/mail":                                       "ledger a.example:5432/mail schema bouncemeter",
		"postgres://meter@a.example,b.example:5433/mail":                        "ledger a.example:5432,b.example:5433/mail schema bouncemeter",
		"postgres://meter@a.example,[2001:db8::1]/mail?target_session_attrs=rw": "",
		"host=/run/postgresql,b.example user=meter dbname=mail sslmode=prefer":  "ledger /run/postgresql,b.example:5432/mail schema bouncemeter",
	} {
		got, err := postgres.Where(dsn, postgres.Options{})
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v, want %q", dsn, got, err, want)
		}
	}
}
