package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHealth(t *testing.T) {
	ready := true
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/-/ready" {
			t.Errorf("asked for %s", r.URL)
		}
		if !ready {
			http.Error(w, "source mta1: disk full", http.StatusServiceUnavailable)
		}
	}))
	defer s.Close()
	var errs strings.Builder
	c := console{strings.NewReader(""), io.Discard, &errs}
	if code := execute(t.Context(), []string{"health", s.URL + "/"}, c); code != 0 || errs.Len() > 0 {
		t.Errorf("ready: exit code %d, %s", code, &errs)
	}
	ready = false
	if code := execute(t.Context(), []string{"health", s.URL}, c); code != 1 || !strings.Contains(errs.String(), "disk full") {
		t.Errorf("not ready: exit code %d, %s", code, &errs)
	}
	s.Close()
	if code := execute(t.Context(), []string{"health", s.URL}, c); code != 1 {
		t.Errorf("away: exit code %d", code)
	}
}
