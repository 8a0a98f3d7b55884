package sqlite_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	engine "database/sql"

	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/ledgertest"
	"github.com/bouncemeter/bouncemeter/ledger/sqlite"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

// The test binary is also the other process that some tests need.
const roleVariable = "BOUNCEMETER_TEST_ROLE"

func TestMain(m *testing.M) {
	var err error
	switch role := os.Getenv(roleVariable); role {
	case "":
		os.Exit(m.Run())
	case "commit":
		err = commitForever(os.Args[1])
	case "hold":
		err = hold(os.Args[1])
	case "limit":
		err = commitInLimit(os.Args[1])
	default:
		err = fmt.Errorf("unknown role %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// other starts this binary in another role.
func other(t *testing.T, role, path string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), exe, path)
	c.Env = append(os.Environ(), roleVariable+"="+role)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewScanner(out)
}

func open(t *testing.T, path string) *sqlite.Ledger {
	t.Helper()
	l, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return l
}

// sum returns all attempts of the ledger.
func sum(t *testing.T, l *sqlite.Ledger) int64 {
	t.Helper()
	rows, err := l.Query(t.Context(), ledger.Query{})
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) == 0 {
		return 0
	}
	return rows[0].Attempts
}

const (
	minute = 60
	hour   = 60 * minute
	day    = 24 * hour
)

// perCommit is what each commit of the tests below counts.
const perCommit = 100

func sampleDelta(series []*window.Series, n int64) *window.Delta {
	d := &window.Delta{Lines: window.Lines{Read: perCommit}}
	for i := range perCommit {
		d.Counts = append(d.Counts, window.Count{Series: series[(int(n)*7+i)%len(series)], Start: ledgertest.Start + int64(i%3)*hour + n*minute, Attempts: 1})
	}
	d.Counts = unique(d.Counts)
	return d
}

// unique drops repeated keys, and adds them to the first.
func unique(counts []window.Count) []window.Count {
	type key struct {
		s *window.Series
		t int64
	}
	seen := make(map[key]int)
	kept := counts[:0]
	for _, c := range counts {
		if i, ok := seen[key{c.Series, c.Start}]; ok {
			kept[i].Attempts += c.Attempts
			continue
		}
		seen[key{c.Series, c.Start}] = len(kept)
		kept = append(kept, c)
	}
	return kept
}

// filled makes a ledger with some of everything and returns what it counts.
func filled(t *testing.T, path string) (attempts int64) {
	t.Helper()
	l := open(t, path)
	c := ledgertest.NewCommitter(t, l, "a")
	series := ledgertest.ManySeries(500)
	for n := range int64(40) {
		d := sampleDelta(series, n)
		d.Templates = []window.TemplateCount{{Hash: uint64(n), Category: series[n].Category, Text: strings.Repeat("x", 200), Attempts: 1, First: ledgertest.Start, Last: ledgertest.Start}}
		d.Domains = []window.DomainCount{{Start: ledgertest.Start, Domain: fmt.Sprintf("r%d.example", n), Outcome: series[n].Outcome, Attempts: 1}}
		c.Commit(d, []ledger.Entry{{Key: uint64(n), Value: []byte("value")}}, nil)
	}
	if _, err := l.Rollup(t.Context(), ledger.DefaultRetention, time.Unix(ledgertest.Start+2*day, 0)); err != nil {
		t.Fatal(err)
	}
	attempts = sum(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return attempts
}

func TestOpenErrors(t *testing.T) {
	folder := t.TempDir()
	another := filepath.Join(folder, "another.db")
	script(t, another, "CREATE TABLE t (x)")
	newer := filepath.Join(folder, "newer.db")
	filled(t, newer)
	script(t, newer, "INSERT INTO schema_versions VALUES (99, 0)")
	textFile := filepath.Join(folder, "mail.log")
	if err := os.WriteFile(textFile, []byte(strings.Repeat("Mar  1 00:00:00 mx1 postfix/smtp[1]: no ledger\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		path string
		want string // in the message
		is   error
	}{
		{filepath.Join(folder, "none", "ledger.db"), "mkdir -p " + filepath.Join(folder, "none"), nil},
		{filepath.Join(textFile, "ledger.db"), "is no folder", nil},
		{another, "another program", nil},
		{newer, "schema version 99", nil},
		{textFile, "put back a backup", ledger.ErrCorrupt},
	} {
		l, err := sqlite.Open(t.Context(), test.path, sqlite.Options{})
		if err == nil {
			_ = l.Close()
			t.Errorf("Open(%s) gave no error", test.path)
			continue
		}
		if !strings.Contains(err.Error(), test.want) || test.is != nil && !errors.Is(err, test.is) || strings.Contains(err.Error(), "\n") {
			t.Errorf("Open(%s) gave %v, want one line with %q", test.path, err, test.want)
		}
	}
	// Whoever only reads gets the same answers, and creates nothing.
	for _, path := range []string{another, newer, textFile, filepath.Join(folder, "absent.db")} {
		if l, err := sqlite.OpenReadOnly(t.Context(), path, sqlite.Options{}); err == nil {
			_ = l.Close()
			t.Errorf("OpenReadOnly(%s) gave no error", path)
		}
	}
	if _, err := os.Stat(filepath.Join(folder, "absent.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("OpenReadOnly created a ledger")
	}
}

// script runs SQL as another program would.
func script(t *testing.T, path, text string) {
	t.Helper()
	db, err := engine.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFileMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a ledger with ?&#%20.db")
	open(t, path)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if m := info.Mode().Perm(); m&0o137 != 0 {
		t.Errorf("mode is %v; others must not read it", m)
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	c, out := other(t, "hold", path)
	if !out.Scan() {
		t.Fatal("the other process did not open the ledger")
	}
	_, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if !errors.Is(err, ledger.ErrLocked) || !strings.Contains(err.Error(), "process "+strconv.Itoa(c.Process.Pid)) {
		t.Errorf("a second Open gave %v, want ErrLocked with process %d", err, c.Process.Pid)
	}
	// Reading is allowed meanwhile.
	l, err := sqlite.OpenReadOnly(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if lanes, err := l.Lanes(t.Context()); err != nil || len(lanes) != 1 {
		t.Errorf("read beside the daemon: %v, %v", lanes, err)
	}
	if _, err := l.Lane(t.Context(), "mta", "b"); err == nil {
		t.Error("a ledger open for reading made a lane")
	}
	if _, err := l.Rollup(t.Context(), ledger.DefaultRetention, time.Unix(ledgertest.Start, 0)); err == nil {
		t.Error("a ledger open for reading rolled up")
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	// A killed process holds no lock.
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait()
	open(t, path)
}

// hold opens a ledger until it is killed.
func hold(path string) error {
	l, err := sqlite.Open(context.Background(), path, sqlite.Options{})
	if err != nil {
		return err
	}
	if _, err := l.Lane(context.Background(), "mta", "a"); err != nil {
		return err
	}
	fmt.Println("open")
	select {}
}

// TestReadWhileWriting reads from a second handle, as report --ledger does.
func TestReadWhileWriting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := open(t, path)
	c := ledgertest.NewCommitter(t, l, "a")
	series := ledgertest.ManySeries(100)
	c.Commit(sampleDelta(series, 0), nil, nil)
	r, err := sqlite.OpenReadOnly(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	for n := range int64(20) {
		if got := sum(t, r); got != (n+1)*perCommit {
			t.Fatalf("%d attempts, want %d", got, (n+1)*perCommit)
		}
		c.Commit(sampleDelta(ledgertest.ManySeries(100+int(n)*10), n+1), nil, nil)
		// Both at once: a reader in the middle of its rows holds no writer up.
		if err := r.Entries(t.Context(), c.At.ID, func(ledger.Entry) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	// After the daemon has stopped too.
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if got := sum(t, r); got != 21*perCommit {
		t.Errorf("%d attempts, want %d", got, 21*perCommit)
	}
}

// TestDamage breaks the header of each page in turn: the ledger must be refused
// or be as it was, and no call may count on as if nothing had happened.
func TestDamage(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "ledger.db")
	want := filled(t, path)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	if len(good) < 20*page {
		t.Fatalf("%d bytes are too few pages to break", len(good))
	}
	refused, tried := 0, 0
	for at := 0; at < len(good); at += page {
		for _, offset := range []int{0, 1, 3, 5, 9} { // type, first free block, cells, start of content, first cell or right child
			if at == 0 {
				offset += 100 // after the file's header
			}
			bad := append([]byte(nil), good...)
			bad[at+offset] ^= 0xa5
			name := filepath.Join(folder, "bad.db")
			if err := os.WriteFile(name, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			tried++
			l, err := sqlite.Open(t.Context(), name, sqlite.Options{})
			if err != nil {
				if !errors.Is(err, ledger.ErrCorrupt) || !strings.Contains(err.Error(), "backup") {
					t.Errorf("page %d, byte %d: Open gave %v, want ErrCorrupt", at/page, offset, err)
				}
				refused++
				continue
			}
			if got := sum(t, l); got != want {
				t.Errorf("page %d, byte %d: %d attempts, want %d or a refusal", at/page, offset, got, want)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if refused < tried*3/4 {
		t.Errorf("%d of %d damaged files were refused", refused, tried)
	}
	t.Logf("%d of %d damaged files were refused, the others read as before", refused, tried)
}

// TestDamageMet finds damage that the check at the start does not look for.
func TestDamageMet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	filled(t, path)
	// The tree of entries becomes something else.
	var root int64
	db, err := engine.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.QueryRowContext(t.Context(), "SELECT rootpage FROM sqlite_schema WHERE name = 'entries'").Scan(&root); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 4096), (root-1)*4096); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := sqlite.Open(t.Context(), path, sqlite.Options{CheckBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	lane, err := l.Lane(t.Context(), "mta", "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Entries(t.Context(), lane.ID, func(ledger.Entry) error { return nil }); !errors.Is(err, ledger.ErrCorrupt) {
		t.Errorf("Entries gave %v, want ErrCorrupt", err)
	}
	if err := l.Check(t.Context()); !errors.Is(err, ledger.ErrCorrupt) {
		t.Errorf("Check gave %v, want ErrCorrupt", err)
	}
	before := sum(t, l)
	next := lane.Position
	next.Offset++
	c := &ledger.Commit{
		Lane: lane.ID, Expected: lane.Position, Position: next, Now: time.Unix(ledgertest.Start, 0),
		Delta: sampleDelta(ledgertest.ManySeries(10), 0), Upserts: []ledger.Entry{{Key: 1, Value: []byte("v")}},
	}
	if err := l.Commit(t.Context(), c); !errors.Is(err, ledger.ErrCorrupt) {
		t.Errorf("Commit gave %v, want ErrCorrupt", err)
	}
	if after := sum(t, l); after != before {
		t.Errorf("the commit that failed left %d attempts, want %d", after, before)
	}
}

// TestKill kills a process that commits and rolls up, again and again. What it
// had reported is there, and the counts are those of the position.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	for round := range 8 {
		c, out := other(t, "commit", path)
		reported := int64(-1)
		for range r.IntN(60) {
			if !out.Scan() {
				break
			}
			n, err := strconv.ParseInt(out.Text(), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			reported = n
		}
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for out.Scan() { // what was in the pipe was reported too
			if n, err := strconv.ParseInt(out.Text(), 10, 64); err == nil {
				reported = n
			}
		}
		_ = c.Wait()

		l, err := sqlite.Open(t.Context(), path, sqlite.Options{})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		lane, err := l.Lane(t.Context(), "mta", "a")
		if err != nil {
			t.Fatal(err)
		}
		if n := lane.Position.Offset; n < reported || sum(t, l) != n*perCommit || lane.Lines.Read != n*perCommit {
			t.Fatalf("round %d: after %d reported commits the position is %d with %d attempts and %d lines",
				round, reported, n, sum(t, l), lane.Lines.Read)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// commitForever commits and rolls up until it is killed.
func commitForever(path string) error {
	ctx := context.Background()
	l, err := sqlite.Open(ctx, path, sqlite.WithChunk(200))
	if err != nil {
		return err
	}
	at, err := l.Lane(ctx, "mta", "a")
	if err != nil {
		return err
	}
	series := ledgertest.ManySeries(300)
	short := ledger.Retention{Minutes: time.Hour, Hours: 24 * time.Hour, Days: 48 * time.Hour}
	failed := make(chan error, 1)
	var n = at.Position.Offset
	clock := make(chan int64, 1)
	go func() {
		for n := range clock {
			if _, err := l.Rollup(ctx, short, time.Unix(ledgertest.Start+n*20*minute, 0)); err != nil {
				failed <- err
			}
		}
	}()
	for {
		d := sampleDelta(series, n)
		for i := range d.Counts { // time goes on twenty minutes with each commit
			d.Counts[i].Start += n * 19 * minute
		}
		next := at.Position
		next.Offset++
		if err := l.Commit(ctx, &ledger.Commit{Lane: at.ID, Expected: at.Position, Position: next, Delta: d, Now: time.Now()}); err != nil {
			return err
		}
		at.Position = next
		n = next.Offset
		fmt.Println(n)
		select {
		case clock <- n:
		case err := <-failed:
			return err
		default:
		}
	}
}

// TestFullDisk limits the size of files, in a process of its own: a commit that
// does not fit is not applied at all, and fits once there is room again.
func TestFullDisk(t *testing.T) {
	c, out := other(t, "limit", filepath.Join(t.TempDir(), "ledger.db"))
	for out.Scan() {
		t.Log(out.Text())
	}
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}

// TestFullFileSystem does the same on a small file system, if it may be mounted.
func TestFullFileSystem(t *testing.T) {
	folder := t.TempDir()
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(folder, 0); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(folder, "ledger.db")
	l, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	room := filepath.Join(folder, "room")
	if err := os.WriteFile(room, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := untilFull(l, func() error { return os.Remove(room) }); err != nil {
		t.Error(err)
	}
	// Not writable at all.
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", folder, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "size=2m"); err != nil {
		t.Skipf("mount it read-only: %v", err)
	}
	if l, err := sqlite.Open(t.Context(), path, sqlite.Options{}); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("Open on a read-only file system gave %v", err)
		_ = l
	}
}

func commitInLimit(path string) error {
	l, err := sqlite.Open(context.Background(), path, sqlite.Options{})
	if err != nil {
		return err
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	was := limit.Cur
	limit.Cur = 1 << 20
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	err = untilFull(l, func() error {
		limit.Cur = was
		return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)
	})
	return errors.Join(err, l.Close())
}

// untilFull commits until there is no room, makes room and tries again.
func untilFull(l *sqlite.Ledger, makeRoom func() error) error {
	ctx := context.Background()
	at, err := l.Lane(ctx, "mta", "a")
	if err != nil {
		return err
	}
	attempts := func() (int64, error) {
		rows, err := l.Query(ctx, ledger.Query{})
		if err != nil || len(rows) == 0 {
			return 0, err
		}
		return rows[0].Attempts, nil
	}
	failures := 0
	for n := int64(0); n < 2000; n++ {
		// New series each time, so that it fills up and ids are rolled back.
		series := ledgertest.ManySeries(int(n+2) * perCommit)
		d := sampleDelta(series[int(n)*perCommit:], 0)
		next := at.Position
		next.Offset++
		c := &ledger.Commit{Lane: at.ID, Expected: at.Position, Position: next, Delta: d, Now: time.Now()}
		for failures < 3 {
			err := l.Commit(ctx, c)
			if err == nil {
				break
			}
			failures++
			if errors.Is(err, ledger.ErrCorrupt) || errors.Is(err, ledger.ErrConflict) {
				return fmt.Errorf("no room gave %w", err)
			}
			fmt.Println(err)
			if got, err := attempts(); err != nil || got != n*perCommit {
				return fmt.Errorf("after a commit that failed: %d attempts, want %d: %w", got, n*perCommit, err)
			}
		}
		if failures == 3 {
			if err := makeRoom(); err != nil {
				return err
			}
			failures++
			if err := l.Commit(ctx, c); err != nil {
				return fmt.Errorf("with room again: %w", err)
			}
		}
		at.Position = next
		if failures > 3 {
			if got, err := attempts(); err != nil || got != (n+1)*perCommit {
				return fmt.Errorf("with room again: %d attempts, want %d: %w", got, (n+1)*perCommit, err)
			}
			return nil
		}
	}
	return errors.New("it never got full")
}

// What happens to a closed ledger is found, wherever it is: a count with a bit
// turned is no damage to SQLite.
func TestSumOfAClosedLedger(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	want := filled(t, path)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	note, err := os.ReadFile(path + "-sum")
	if err != nil {
		t.Fatal(err)
	}
	put := func(b, note []byte, at time.Time) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path, b, 0o600), os.WriteFile(path+"-sum", note, 0o600), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	bad := append([]byte(nil), good...)
	bad[len(bad)-1] ^= 1 // in the middle of some row
	put(bad, note, info.ModTime())
	for range 2 { // it stays refused
		if l, err := sqlite.Open(t.Context(), path, sqlite.Options{}); !errors.Is(err, ledger.ErrCorrupt) {
			t.Errorf("Open gave %v, want ErrCorrupt", err)
			_ = l
		}
	}
	// A backup that is put back, and what sqlite3 has changed, have another time.
	put(good, []byte("1 5 5 00\n"), info.ModTime().Add(time.Hour))
	l := open(t, path)
	if got := sum(t, l); got != want {
		t.Errorf("%d attempts, want %d", got, want)
	}
	if _, err := os.Stat(path + "-sum"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an open ledger has a note: %v", err)
	}
}
