// Package postgrestest starts a PostgreSQL of its own for tests with real
// servers: on a free loopback port, with passwords and without TLS. It needs the
// Debian package postgresql, which the script of ledger/postgres installs.
package postgrestest

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/test/internal/rig"
)

// Owner and Password log in as a superuser.
const (
	Owner    = "owner"
	Password = "tart-plum"
)

// Server is a running server.
type Server struct {
	Port int

	bin, dir string
	as       *syscall.Credential // the server refuses to run as root
	settings []string
	program  *rig.Program
}

// Start starts a server with these settings, such as fsync=off, that ends with
// the test. Unless the environment has E2E_SERVERS=1, it skips the test.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	if os.Getenv("E2E_SERVERS") != "1" {
		t.Skip("needs PostgreSQL: install Debian's postgresql and set E2E_SERVERS=1, or run ledger/postgres/run.sh")
	}
	bins, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(bins) == 0 {
		t.Fatal("no PostgreSQL: install Debian's postgresql", err)
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(strings.Split(path, "/")[4]) // 0 sorts first
		return n
	}
	newest := slices.MaxFunc(bins, func(a, b string) int { return cmp.Compare(version(a), version(b)) })
	s := &Server{bin: filepath.Dir(newest), settings: settings, Port: rig.FreePort(t)}
	if s.dir, err = os.MkdirTemp("", "postgrestest-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(s.dir); err != nil {
			t.Error(err)
		}
	})
	if err := s.create(); err != nil {
		t.Fatal(err)
	}
	s.Start(t)
	return s
}

func (s *Server) create() error {
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			return err
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return err
		}
		s.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(s.dir, int(uid), int(gid)); err != nil {
			return err
		}
	}
	secret := filepath.Join(s.dir, "password")
	if err := os.WriteFile(secret, []byte(Password), 0o600); err != nil {
		return err
	}
	if s.as != nil {
		if err := os.Chown(secret, int(s.as.Uid), int(s.as.Gid)); err != nil {
			return err
		}
	}
	if out, err := s.command("initdb", "-D", s.data(), "-U", Owner, "-A", "scram-sha-256", "--pwfile", secret, "-E", "UTF8", "--locale=C", "-N").CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	return cmd
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// startWithin is how long a server may take until it serves, or has ended; a
// loaded machine needs it.
const startWithin = 60 * time.Second

// Start starts the server again after Stop or Kill, with what it had.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	args := []string{"-D", s.data(), "-c", "listen_addresses=127.0.0.1", "-c", "port=" + strconv.Itoa(s.Port), "-c", "unix_socket_directories="}
	for _, setting := range s.settings {
		args = append(args, "-c", setting)
	}
	s.program = rig.Start(t, s.command("postgres", args...))
	t.Cleanup(func() { s.Kill(t) }) // by its own signal: it ends its processes
	s.program.Until(t, "PostgreSQL serves", startWithin, func() bool {
		return s.command("pg_isready", "-q", "-h", "127.0.0.1", "-p", strconv.Itoa(s.Port)).Run() == nil
	})
}

// Demote makes the server a standby of none: what it has can be read and not
// written.
func (s *Server) Demote(t testing.TB) {
	t.Helper()
	s.Stop(t)
	if err := os.WriteFile(filepath.Join(s.data(), "standby.signal"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s.Start(t)
}

// Stop ends the server and all its connections in good order.
func (s *Server) Stop(t testing.TB) { s.program.End(t, syscall.SIGINT, startWithin) }

// Kill ends the server as a crash does.
func (s *Server) Kill(t testing.TB) { s.program.End(t, syscall.SIGQUIT, startWithin) }

// OwnerDSN is how the superuser reaches the server.
func (s *Server) OwnerDSN() string { return s.DSN(Owner, Password) }

// DSN is how a role of the database postgres reaches the server.
func (s *Server) DSN(role, password string) string {
	return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/postgres?sslmode=disable", role, password, s.Port)
}
