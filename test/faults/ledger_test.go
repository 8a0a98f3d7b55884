package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/sqlite"
	"github.com/bouncemeter/bouncemeter/test/internal/rig"
)

// disk mounts a small file system.
func disk(t *testing.T, size string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to mount small file systems")
	}
	dir := filepath.Join(t.TempDir(), "small")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("mount a small file system: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func remount(t *testing.T, dir string, flags uintptr, size string) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|flags, "size="+size); err != nil {
		t.Fatal(err)
	}
}

// A full disk stops the counting, is said, and costs nothing once there is room;
// and the same of one that can only be read.
func TestDiskOfTheLedger(t *testing.T) {
	t.Parallel()
	short(t)
	small := disk(t, "350k")
	dir := t.TempDir()
	log := filepath.Join(dir, "mail.log")
	text := mail(t, 60_000)
	lines := int64(bytes.Count(text, []byte("\n")))
	rig.Append(t, log, text)
	site := rig.NewSite(t, rig.Build(t, ""), dir, rig.Tail(log)+"ledger: {sqlite: "+small+"/ledger.db}")
	site.Ledger = small + "/ledger.db"
	d := site.Start(t)
	unready := func(want string) func() bool {
		return func() bool {
			status, body := site.Get("/-/ready")
			return status == http.StatusServiceUnavailable && strings.Contains(body, want)
		}
	}
	d.Eventually(t, "it says that the disk is full", unready("make room in "+small))
	if status, _ := site.Get("/-/healthy"); status != http.StatusOK {
		t.Errorf("healthy: %d", status)
	}
	d.Kill(t) // while it is full
	d = site.Start(t)
	remount(t, small, 0, "100m")
	d.Counts(t, lines)
	d.Eventually(t, "it is ready", func() bool { status, _ := site.Get("/-/ready"); return status == http.StatusOK })
	site.Exact(t, log)

	d.Stop(t)
	remount(t, small, syscall.MS_RDONLY, "100m")
	site.Start(t).Refused(t, 1, "read-only", small)
	remount(t, small, 0, "100m")
	rig.Append(t, log, text[bytes.IndexByte(text, '\n')+1:])
	d = site.Start(t)
	d.Counts(t, 2*lines-1)
	settled()
	d.Stop(t)
	site.Exact(t, log)
	figure(t, "full, killed, room made: said by /-/ready, goes on by itself; read-only: refused with the remedy; %d lines exact", 2*lines-1)
}

// A power loss may take the end of the write-ahead log from a disk that lied about
// syncing, as far as it has not been moved into the ledger's file. What was committed
// there is counted again.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	cuts := 40
	if short(t) {
		cuts = 8
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	log := filepath.Join(dir, "mail.log")
	site := rig.NewSite(t, rig.Build(t, ""), dir, rig.Tail(log)+"limits: {commit_every: 50ms}")
	text := mail(t, 60_000)
	lost := int64(0)
	for i := range cuts {
		n := len(text) / cuts * (i + 1)
		if i == cuts-1 {
			n = len(text)
		}
		n = bytes.LastIndexByte(text[:n], '\n') + 1
		info, _ := os.Stat(log)
		had := 0
		if info != nil {
			had = int(info.Size())
		}
		d := site.Start(t)
		for part := range 4 { // several commits, some after what the start moves into the file
			rig.Append(t, log, text[had+(n-had)*part/4:had+(n-had)*(part+1)/4])
			d.Counts(t, int64(bytes.Count(text[:had+(n-had)*(part+1)/4], []byte("\n"))))
		}
		d.Kill(t)
		wal, err := os.Stat(site.Ledger + "-wal")
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		index, err := os.ReadFile(site.Ledger + "-shm")
		if err != nil || len(index) < 100 {
			t.Fatalf("the index of the write-ahead log: %d bytes, %v", len(index), err)
		}
		moved := 32 + int64(binary.LittleEndian.Uint32(index[96:]))*(24+4096) // walindex: nBackfill
		if cut := moved + random.Int64N(max(1, wal.Size()-moved+1)); cut < wal.Size() {
			lost += wal.Size() - cut
			if err := os.Truncate(site.Ledger+"-wal", cut); err != nil {
				t.Fatal(err)
			}
		}
	}
	d := site.Start(t)
	d.Counts(t, int64(bytes.Count(text, []byte("\n"))))
	settled()
	d.Stop(t)
	site.Exact(t, log)
	figure(t, "%d times killed and the write-ahead log cut at a random byte, %d KB of it in all: exact", cuts, lost/1000)
}

// Bytes of the ledger are changed at random: it is refused, or as it was.
func TestDamagedLedger(t *testing.T) {
	flips := 5000
	if short(t) {
		flips = 500
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	log := filepath.Join(dir, "mail.log")
	rig.Append(t, log, mail(t, 3000))
	site := rig.NewSite(t, rig.Build(t, ""), dir, rig.Tail(log))
	d := site.Start(t)
	d.Counts(t, 3000)
	d.Stop(t)
	good, err := os.ReadFile(site.Ledger)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := os.ReadFile(site.Ledger + "-sum")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(site.Ledger)
	if err != nil {
		t.Fatal(err)
	}
	count := func(path string) (string, error) {
		l, err := sqlite.Open(t.Context(), path, sqlite.Options{})
		if err != nil {
			return "", err
		}
		defer func() { _ = l.Close() }()
		rows, err := l.Query(t.Context(), ledger.Query{By: []ledger.Dimension{ledger.ByOutcome, ledger.ByCategory, ledger.ByProvider, ledger.BySenderDomain}})
		if err != nil {
			return "", err
		}
		lanes, err := l.Lanes(t.Context())
		return fmt.Sprint(rows, lanes), err
	}
	at := filepath.Join(dir, "copy.db")
	// put writes a ledger as it would be after Close, or after a kill.
	put := func(b []byte, closed bool) {
		t.Helper()
		err := errors.Join(os.WriteFile(at, b, 0o600), os.Chtimes(at, info.ModTime(), info.ModTime()), os.RemoveAll(at+"-sum"))
		if closed {
			err = errors.Join(err, os.WriteFile(at+"-sum", sum, 0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	put(good, true)
	want, err := count(at)
	if err != nil {
		t.Fatal(err)
	}
	for _, closed := range []bool{true, false} {
		refused, same, unseen := 0, 0, 0
		for range flips {
			bad := bytes.Clone(good)
			i := random.IntN(len(bad))
			bad[i] ^= byte(1 + random.IntN(255))
			put(bad, closed)
			got, err := count(at)
			switch {
			case err != nil:
				refused++
				if closed && !errors.Is(err, ledger.ErrCorrupt) { // else it may look like that of another program or version
					t.Errorf("byte %d: %v, want ErrCorrupt", i, err)
				}
			case got == want:
				same++
			default:
				unseen++
				if closed {
					t.Errorf("byte %d of page %d changed, and it counts differently (seed %d)", i%4096, i/4096, seed)
				}
			}
		}
		if closed {
			figure(t, "%d single bytes of a closed ledger of %d changed: %d refused, %d read as before, none counted differently", flips, len(good), refused, same)
		} else {
			figure(t, "the same after a kill, without its checksum: %d refused, %d read as before, %d counted differently", refused, same, unseen)
		}
	}
}

// A second daemon, a folder that is not there and a damaged ledger are refused
// with the remedy, and nothing is started over.
func TestRefusals(t *testing.T) {
	t.Parallel()
	short(t)
	dir := t.TempDir()
	log := filepath.Join(dir, "mail.log")
	rig.Append(t, log, mail(t, 2000))
	site := rig.NewSite(t, rig.Build(t, ""), dir, rig.Tail(log))
	first := site.Start(t)
	first.Counts(t, 2000)
	other := rig.NewSite(t, site.Binary, t.TempDir(), rig.Tail(log)+"ledger: {sqlite: "+site.Ledger+"}")
	other.Start(t).Refused(t, 1, "another bouncemeter uses this ledger", fmt.Sprint(first.Process.Pid))
	first.Stop(t)
	site.Exact(t, log)

	none := filepath.Join(dir, "none")
	rig.NewSite(t, site.Binary, t.TempDir(), rig.Tail(log)+"ledger: {sqlite: "+none+"/ledger.db}").Start(t).Refused(t, 2, none, "does not exist", "make it")

	good, err := os.ReadFile(site.Ledger)
	if err != nil {
		t.Fatal(err)
	}
	broken := bytes.Clone(good)
	for i := 3 * 4096; i < 6*4096; i++ {
		broken[i] ^= 0x55
	}
	if err := os.WriteFile(site.Ledger, broken, 0o600); err != nil {
		t.Fatal(err)
	}
	site.Start(t).Refused(t, 1, "damaged", "backup")
	if err := os.WriteFile(site.Ledger, good, 0o600); err != nil {
		t.Fatal(err)
	}
	again := site.Start(t)
	again.Counts(t, 2000)
	again.Stop(t)
	site.Exact(t, log)
	figure(t, "second daemon, missing folder, damaged ledger: each refused with the remedy; goes on with a backup")
}
