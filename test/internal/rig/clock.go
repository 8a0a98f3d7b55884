package rig

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// BuildWithClock builds the real program with a clock that jumps: libfaketime can
// do nothing for a program that does not ask the C library for the time. What
// time.Now returns is changed by the environment variable CLOCK=SECONDS@AFTER, by
// so many seconds once the process has run for so many; the monotonic clock goes on
// as it was.
func BuildWithClock(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	original := filepath.Join(strings.TrimSpace(string(out)), "src/time/time.go")
	source, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	const now = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(source), now) != 1 {
		t.Skip("this version of Go tells the time in a way that the test does not know")
	}
	text := strings.Replace(string(source), now, now+"\tif mono-startNano > jumpAfter() {\n\t\tsec += jump\n\t}\n", 1) + `
var jump, jumpIn int64

func jumpAfter() int64 {
	if jumpIn == 0 {
		jumpIn = 1 << 62
		v, _ := syscall.Getenv("CLOCK")
		var n [2]int64
		i, sign := 0, int64(1)
		for _, c := range []byte(v) {
			switch {
			case c == '@':
				n[0] *= sign
				i, sign = 1, 1
			case c == '-':
				sign = -1
			default:
				n[i] = n[i]*10 + int64(c-'0')
			}
		}
		if i == 1 {
			jump, jumpIn = n[0], n[1]*1e9+1
		}
	}
	return jumpIn
}
`
	text = strings.Replace(text, "import (\n", "import (\n\t\"syscall\"\n", 1)
	dir := t.TempDir()
	changed, overlay := filepath.Join(dir, "time.go"), filepath.Join(dir, "overlay.json")
	b, err := json.Marshal(map[string]any{"Replace": map[string]string{original: changed}})
	if err != nil {
		t.Fatal(err)
	}
	for path, b := range map[string][]byte{changed: []byte(text), overlay: b} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return build(t, "clock", "-overlay", overlay)
}
