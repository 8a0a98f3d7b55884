package app

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/bouncemeter/bouncemeter/ledger"
)

// Providers send up to a thousand events at once, and one of them may be such as
// nobody has seen before. Wherever they come from, it costs no other: the rest
// counts, it is kept with its place, and nothing is sent or read again.
func TestAnOddEventOfAnArray(t *testing.T) {
	const events, odd = 1000, 500
	const record = `{"event":"delivered","email":"user%d@one.example","timestamp":%d,"sg_message_id":"m%[1]d"}`
	all := make([]string, events)
	for i := range all {
		all[i] = fmt.Sprintf(record, i, time.Now().Unix())
	}
	all[odd-1] = `{"event":"delivered","email":["new@one.example"]}`
	array := "[" + strings.Join(all, ",") + "]"

	log := filepath.Join(t.TempDir(), "events.jsonl")
	if err := os.WriteFile(log, []byte(array+"\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "events"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	writer := &kafka.Writer{Addr: kafka.TCP(cluster.ListenAddrs()...), Topic: "events", BatchTimeout: time.Millisecond}
	if err := writer.WriteMessages(t.Context(), kafka.Message{Value: []byte(array)}); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	for name, source := range map[string]string{
		"file":    "{name: in, kind: tail, dialect: sendgrid, paths: [" + log + "], start: beginning, max_line_bytes: 256KiB}",
		"kafka":   "{name: in, kind: kafka, dialect: auto, brokers: ['" + cluster.ListenAddrs()[0] + "'], topics: [events], group: bouncemeter, max_line_bytes: 256KiB}",
		"webhook": "{name: in, kind: webhook, dialect: sendgrid, verify: token, listen: '" + address + "', url_path: /events, secret_file: " + secret + "}",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			a := opened(t, dir, "sources: ["+source+"]\nledger: {sqlite: ledger.db}\nlimits: {commit_every: 50ms}\n")
			run(t, a)
			if name == "webhook" {
				sent(t, "http://"+address+"/events", array)
			}
			until(t, "the array is counted", func() bool {
				lanes, err := a.ledger.Lanes(t.Context())
				return err == nil && len(lanes) == 1 && lanes[0].Lines.Read == 1
			})
			rows, err := a.ledger.Query(t.Context(), ledger.Query{Limit: 10})
			if err != nil || len(rows) != 1 || rows[0].Attempts != events-1 {
				t.Errorf("%+v, %v", rows, err)
			}
			lanes, err := a.ledger.Lanes(t.Context())
			if err != nil || lanes[0].Lines.Malformed != 1 {
				t.Errorf("%+v, %v", lanes, err)
			}
			if name == "webhook" {
				until(t, "the spool is empty", func() bool {
					files, err := filepath.Glob(filepath.Join(dir, "spool", "in", "*.spool"))
					return err == nil && len(files) == 1
				})
			}
			letters := lettersIn(t, filepath.Join(dir, "dead-letter.jsonl"))
			if len(letters) != 1 || letters[0].Record != odd || !strings.Contains(letters[0].Line, `"email":[`) {
				t.Errorf("dead letters %+v", letters)
			}
		})
	}
}

// sent posts body until it is taken, which must be at the first try that is heard.
func sent(t *testing.T, url, body string) {
	t.Helper()
	until(t, "the events are taken", func() bool {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer secret")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return false // it does not listen yet
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Fatalf("answered with %s", answer.Status)
		}
		return true
	})
}

type letter struct {
	Record int    `json:"record"`
	Line   string `json:"line"`
}

func lettersIn(t *testing.T, path string) (all []letter) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		var l letter
		if err := json.Unmarshal(in.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		all = append(all, l)
	}
	return all
}

// until waits for what a goroutine is about to do.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within 30 seconds: %s", what)
		}
	}
}
