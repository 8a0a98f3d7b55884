package app

import (
	"os"
	"path/filepath"
	"testing"
)

func TestIsDSN(t *testing.T) {
	odd := filepath.Join(t.TempDir(), "host=x")
	if err := os.WriteFile(odd, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Dir(odd))
	for where, want := range map[string]bool{
		"postgres://reader@db.example/bouncemeter":       true,
		"postgresql:///bouncemeter?host=/run/postgresql": true,
		"host=db.example user=reader":                    true,
		" service = mail":                                true,
		"/var/lib/bouncemeter/ledger.db":                 false,
		"ledger.db":                                      false,
		"/mnt/day=1/ledger.db":                           false,
		"host=x":                                         false, // which is a file
		"":                                               false,
	} {
		if got := isDSN(where); got != want {
			t.Errorf("%q: %v, want %v", where, got, want)
		}
	}
}
