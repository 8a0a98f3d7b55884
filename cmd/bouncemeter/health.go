package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

type healthCommand struct {
	URL string `arg:"" optional:"" default:"http://127.0.0.1:9725" help:"Where the daemon is (${default})."`
}

// Run asks a daemon whether it counts, for health checks where there is no curl.
// It is silent if all is well.
func (h healthCommand) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(h.URL, "/")+"/-/ready", nil)
	if err != nil {
		return usageError{err}
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("the daemon does not answer: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 4<<10)) // what came of it
		return fmt.Errorf("the daemon is not ready: %s: %q", answer.Status, strings.TrimSpace(string(text)))
	}
	return nil
}
