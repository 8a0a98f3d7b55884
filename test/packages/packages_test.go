// Package packages tests the packages for Debian and RPM systems: that they can
// be made again byte for byte, what is in them, and that it works.
package packages

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/test/internal/rig"
)

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	var out, stderr bytes.Buffer
	c := exec.Command(name, args...)
	c.Stdout, c.Stderr = &out, &stderr
	if err := c.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, &out, &stderr)
	}
	return out.String()
}

func build(t *testing.T) (folder string) {
	t.Helper()
	folder = t.TempDir()
	t.Setenv("ARCHS", runtime.GOARCH)
	run(t, "../../configs/package/build.sh", "1.2.3", folder)
	return folder
}

// TestPackages installs the files below a folder, as dpkg would below /.
func TestPackages(t *testing.T) {
	if os.Getenv("NFPM") == "" {
		t.Skip("needs nfpm: test/packages/run.sh")
	}
	dist := build(t)
	sums, err := os.ReadFile(filepath.Join(dist, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := os.ReadFile(filepath.Join(build(t), "SHA256SUMS"))
	if err != nil || !bytes.Equal(sums, again) {
		t.Errorf("the second build has other bytes (%v):\n%s\n%s", err, sums, again)
	}
	deb := glob(t, dist, "*.deb")
	rpm := glob(t, dist, "*.rpm")

	modes := map[string]fs.FileMode{
		"/usr/bin/bouncemeter": 0o755, "/etc/bouncemeter/bouncemeter.yaml": 0o644, "/usr/lib/systemd/system/bouncemeter.service": 0o644,
		"/usr/lib/sysusers.d/bouncemeter.conf": 0o644, "/usr/share/man/man1/bouncemeter.1.gz": 0o644,
		"/usr/share/bash-completion/completions/bouncemeter": 0o644, "/usr/share/zsh/vendor-completions/_bouncemeter": 0o644,
		"/usr/share/fish/vendor_completions.d/bouncemeter.fish": 0o644, "/usr/share/doc/bouncemeter/copyright": 0o644,
		"/usr/share/doc/bouncemeter/bouncemeter.cdx.json":                         0o644,
		"/usr/share/bouncemeter/prometheus/rules.yaml":                            0o644,
		"/usr/share/bouncemeter/grafana/dashboards/bouncemeter-overview.json":     0o644,
		"/usr/share/bouncemeter/grafana/provisioning/dashboards/bouncemeter.yaml": 0o644,
		"/usr/share/bouncemeter/grafana/provisioning/datasources/prometheus.yaml": 0o644,
	}
	root := t.TempDir()
	run(t, "dpkg", "-x", deb, root)
	listed := run(t, "rpm", "-qlp", rpm)
	for name, mode := range modes {
		info, err := os.Stat(root + name)
		if err != nil {
			t.Errorf("deb: %v", err)
		} else if info.Mode() != mode {
			t.Errorf("deb: %s has mode %v, want %v", name, info.Mode(), mode)
		}
		if !strings.Contains(listed, name+"\n") {
			t.Errorf("rpm has no %s", name)
		}
	}
	control := run(t, "dpkg-deb", "-f", deb)
	for _, want := range []string{"Package: bouncemeter", "Version: 1.2.3", "Architecture: " + runtime.GOARCH} {
		if !strings.Contains(control, want) {
			t.Errorf("no %q in\n%s", want, control)
		}
	}
	parts := t.TempDir()
	run(t, "dpkg-deb", "-e", deb, parts)
	if conffiles, err := os.ReadFile(filepath.Join(parts, "conffiles")); err != nil || strings.TrimSpace(string(conffiles)) != "/etc/bouncemeter/bouncemeter.yaml" {
		t.Errorf("conffiles: %q, %v", conffiles, err)
	}
	for _, script := range []string{"postinst", "prerm"} {
		run(t, "sh", "-n", filepath.Join(parts, script))
	}
	if got := run(t, "rpm", "-qp", "--configfiles", rpm); strings.TrimSpace(got) != "/etc/bouncemeter/bouncemeter.yaml" {
		t.Errorf("rpm's configuration: %q", got)
	}

	binary := filepath.Join(root, "usr/bin/bouncemeter")
	if got := run(t, binary, "version"); !strings.HasPrefix(got, "bouncemeter 1.2.3 ") {
		t.Errorf("%q", got)
	}
	// The default configuration is fine but for the folder, which systemd makes.
	config, err := os.ReadFile(filepath.Join(root, "etc/bouncemeter/bouncemeter.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	here := filepath.Join(t.TempDir(), "bouncemeter.yaml")
	if err := os.WriteFile(here, bytes.ReplaceAll(config, []byte("/var/lib/bouncemeter"), []byte(filepath.Dir(here))), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, binary, "check", "-c", here)
	run(t, "bash", "-n", filepath.Join(root, "usr/share/bash-completion/completions/bouncemeter"))
	page := filepath.Join(t.TempDir(), "bouncemeter.1")
	if err := os.WriteFile(page, []byte(run(t, "gzip", "-dc", filepath.Join(root, "usr/share/man/man1/bouncemeter.1.gz"))), 0o600); err != nil {
		t.Fatal(err)
	}
	if text := run(t, "groff", "-man", "-Tascii", "-ww", "-P-cbou", page); !strings.Contains(text, "rules lint") {
		t.Error("the manual page tells nothing of rules lint")
	}
	var bom struct {
		BomFormat  string
		Components []struct{ Name string }
	}
	text, err := os.ReadFile(filepath.Join(root, "usr/share/doc/bouncemeter/bouncemeter.cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &bom); err != nil || bom.BomFormat != "CycloneDX" || len(bom.Components) < 20 {
		t.Errorf("%d components, %v", len(bom.Components), err)
	}
}

// TestUnit asks this machine's systemd about the unit.
func TestUnit(t *testing.T) {
	if os.Getenv("NFPM") == "" {
		t.Skip("needs systemd: test/packages/run.sh")
	}
	exposed(t, "systemd-analyze", "security", "--offline=true", "--no-pager", "../../configs/systemd/bouncemeter.service")
}

func glob(t *testing.T, folder, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, pattern))
	if err != nil || len(files) != 1 {
		t.Fatalf("%s: %v, %v", pattern, files, err)
	}
	return files[0]
}

// TestDebian installs the package in a Debian that has nothing but systemd and
// Postfix, and runs it there as its user on what that Postfix logs.
func TestDebian(t *testing.T) {
	pristine := os.Getenv("DEBIAN")
	if pristine == "" {
		t.Skip("needs a Debian: test/packages/run.sh")
	}
	root := t.TempDir()
	run(t, "tar", "-C", root, "-xf", pristine)
	in := func(args ...string) string {
		t.Helper()
		return run(t, "chroot", append([]string{root}, args...)...)
	}
	run(t, "cp", glob(t, build(t), "*.deb"), filepath.Join(root, "bouncemeter.deb"))
	in("dpkg", "-i", "/bouncemeter.deb")
	if got := in("dpkg-query", "-W", "-f", "${Status} ${Version}", "bouncemeter"); got != "install ok installed 1.2.3" {
		t.Errorf("%q", got)
	}
	if got := strings.Fields(in("id", "-nG", "bouncemeter")); !slices.Contains(got, "adm") || !slices.Contains(got, "bouncemeter") {
		t.Errorf("the user is in the groups %v", got)
	}
	if got := in("getent", "passwd", "bouncemeter"); !strings.HasSuffix(strings.TrimSpace(got), "nologin") {
		t.Errorf("the user may log in: %s", got)
	}
	exposed(t, "chroot", root, "systemd-analyze", "security", "--offline=true", "--no-pager", "bouncemeter.service")

	// A Postfix that can deliver nothing: one recipient has no mailbox, another's
	// server does not answer.
	for _, setting := range []string{"maillog_file=/var/log/mail.log", "myhostname=mx1.example", "mydestination=mx1.example", "default_transport=smtp:[127.0.0.1]:1", "inet_interfaces=loopback-only", "compatibility_level=3.6"} {
		in("postconf", "-e", setting)
	}
	in("postconf", "-MX", "smtp/inet")
	in("sh", "-c", "install -m 640 -g adm /dev/null /var/log/mail.log && newaliases") // as rsyslog makes it
	in("postfix", "start")
	t.Cleanup(func() { in("postfix", "stop") })
	for _, to := range []string{"nobody-of-this-name@mx1.example", "ann@customer.example"} {
		in("sh", "-c", "printf 'Subject: x\\n\\nx\\n' | sendmail -f sender@shop.example "+to)
	}

	as := []string{"--userspec=bouncemeter:bouncemeter", "--groups=bouncemeter,adm", root}
	in("install", "-d", "-m", "750", "-o", "bouncemeter", "-g", "bouncemeter", "/var/lib/bouncemeter") // as systemd does for StateDirectory
	address := rig.FreeAddress(t)
	command := exec.Command("chroot", append(as, "/usr/bin/bouncemeter", "run", "-c", "/etc/bouncemeter/bouncemeter.yaml")...)
	command.Env = append(os.Environ(), "BOUNCEMETER_HTTP__LISTEN="+address)
	daemon := rig.Daemon{Program: rig.Start(t, command)}
	var got struct {
		Rows []struct{ Keys map[string]string }
	}
	found := func(category, outcome string) bool {
		return slices.ContainsFunc(got.Rows, func(r struct{ Keys map[string]string }) bool {
			return r.Keys["category"] == category && r.Keys["outcome"] == outcome && r.Keys["sender_domain"] == "shop.example"
		})
	}
	for deadline := time.Now().Add(time.Minute); !found("user_unknown", "bounced") || !found("connection_failed", "deferred"); time.Sleep(200 * time.Millisecond) {
		if r, err := http.Get("http://" + address + "/api/v1/counts?by=category,outcome,sender_domain"); err == nil {
			err = json.NewDecoder(r.Body).Decode(&got)
			r.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
		}
		if time.Now().After(deadline) {
			log, err := os.ReadFile(filepath.Join(root, "var/log/mail.log"))
			t.Fatalf("%+v\n%s\n%s %v", got, daemon.Output(), log, err)
		}
	}
	daemon.Stop(t)
	if got := run(t, "chroot", append(as, "/usr/bin/bouncemeter", "report", "/var/log/mail.log")...); !strings.Contains(got, "user_unknown") {
		t.Errorf("report: %s", got)
	}

	in("dpkg", "-r", "bouncemeter")
	if _, err := os.Stat(filepath.Join(root, "etc/bouncemeter/bouncemeter.yaml")); err != nil {
		t.Errorf("the configuration is gone with the program: %v", err)
	}
	in("dpkg", "-P", "bouncemeter")
	if _, err := os.Stat(filepath.Join(root, "etc/bouncemeter/bouncemeter.yaml")); err == nil {
		t.Error("the configuration stays when all is purged")
	}
}

// exposed runs systemd's analysis of how much of the machine a service can reach:
// 0 is nothing, 10 all of it.
func exposed(t *testing.T, name string, args ...string) {
	t.Helper()
	const most = 2.0
	text := run(t, name, args...)
	m := regexp.MustCompile(`exposure level for \S+: ([\d.]+)`).FindStringSubmatch(text)
	if m == nil {
		t.Fatal(text)
	}
	level, err := strconv.ParseFloat(m[1], 64)
	if err != nil || level > most {
		t.Errorf("exposure %s, want at most %v", m[1], most)
	}
	t.Logf("exposure %s", m[1])
}
