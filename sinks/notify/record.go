package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/bouncemeter/bouncemeter/internal/durable"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/alertjson"
)

// record is one change in the file and in Kafka. Alert is the JSON of an Alert.
type record struct {
	V     int             `json:"v"`
	Seq   int64           `json:"seq"`
	Time  time.Time       `json:"time"`
	Alert json.RawMessage `json:"alert"`
}

// recordOf returns the JSON of a change. A body that is no JSON, which only
// damage explains, is recorded as a text.
func recordOf(c *ledger.Alert) ([]byte, error) {
	body := c.Body
	if !json.Valid(body) {
		var err error
		if body, err = json.Marshal(string(body)); err != nil {
			return nil, err
		}
	}
	return json.Marshal(record{1, c.Seq, time.Unix(c.Time, 0).UTC(), body})
}

// File appends changes to a file, one JSON object a line. The file may be
// renamed or removed at any time, such as by logrotate: it is opened anew each
// time.
type File struct{ path string }

// NewFile returns a Recorder for the file at path.
func NewFile(path string) (*File, error) {
	if path == "" {
		return nil, errors.New("path: there is none; name a file")
	}
	return &File{path}, nil
}

// Record implements Recorder.
func (f *File) Record(_ context.Context, changes []ledger.Alert) (err error) {
	var b bytes.Buffer
	for i := range changes {
		line, err := recordOf(&changes[i])
		if err != nil {
			return Refused(fmt.Errorf("write change %d as JSON: %w", changes[i].Seq, err))
		}
		b.Write(append(line, '\n'))
	}
	file, err := os.OpenFile(f.path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return fmt.Errorf("open the file of alerts: %w; create its folder and make it writable", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	torn, err := durable.EndsTorn(file)
	if err != nil {
		return fmt.Errorf("read the file of alerts: %w", err)
	}
	out := b.Bytes()
	if torn {
		out = append([]byte{'\n'}, out...)
	}
	if _, err := file.Write(out); err != nil {
		return fmt.Errorf("write the file of alerts: %w", err)
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("write the file of alerts: %w", err)
	}
	if info, err := file.Stat(); err == nil && info.Size() == int64(len(out)) { // it is a new one
		if err := durable.SyncFolder(filepath.Dir(f.path)); err != nil {
			return fmt.Errorf("write the file of alerts: %w", err)
		}
	}
	return nil
}

// Log writes changes as messages of the daemon.
type Log struct{ log *slog.Logger }

// NewLog returns a Recorder that writes to log.
func NewLog(log *slog.Logger) *Log { return &Log{log} }

// Record implements Recorder.
func (l *Log) Record(_ context.Context, changes []ledger.Alert) error {
	for i := range changes {
		a, err := alertjson.Decode(&changes[i])
		if err != nil {
			l.log.Error("an alert cannot be read", "err", err)
			continue
		}
		level := slog.LevelWarn
		if !a.State.Open() || a.Inhibited {
			level = slog.LevelInfo
		}
		l.log.Log(context.Background(), level, "alert", "state", a.State, "severity", a.Severity, "rule", a.Rule, "id", a.ID,
			"title", clean(a.Title, maxTitle), "since", a.Since, "failures", a.Failures, "attempts", a.Attempts, "ratio", a.Ratio, "usual", a.Usual)
	}
	return nil
}

// Topic is a Kafka topic, or what is like one.
type Topic interface {
	// Produce returns nil once the value is durable. Values of one key keep
	// their order.
	Produce(ctx context.Context, key, value []byte) error
}

// Kafka produces changes to a topic, keyed by the alert's ID, in the form of the
// file's lines.
type Kafka struct{ topic Topic }

// NewKafka returns a Recorder for a topic.
func NewKafka(t Topic) *Kafka { return &Kafka{t} }

// Record implements Recorder.
func (k *Kafka) Record(ctx context.Context, changes []ledger.Alert) error {
	for i := range changes {
		value, err := recordOf(&changes[i])
		if err != nil {
			return Refused(fmt.Errorf("write change %d as JSON: %w", changes[i].Seq, err))
		}
		if err := k.topic.Produce(ctx, []byte(changes[i].ID), value); err != nil {
			return err
		}
	}
	return nil
}
