// Command traffic writes what a busy mail server would, at the pace of the
// clock, for those who try things out: a Postfix log that rotates, and the lines
// of a second server to a Kafka topic. Every hour one of the senders' SPF record
// breaks for ten minutes.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/simulate"
)

// An incident's course: it comes every hour, for a part of it.
const (
	every  = time.Hour
	breaks = 5 * time.Minute // after the start
	lasts  = 10 * time.Minute
	days   = 60 // for so long incidents are planned
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "traffic:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("traffic", flag.ContinueOnError)
	path := flags.String("log", "", "write a log to this `file`; it is renamed to FILE.1 when it is large")
	broker := flags.String("broker", "", "write lines to a topic of the Kafka cluster of this `address`")
	topic := flags.String("topic", "delivery-status", "the `topic`")
	rate := flags.Float64("rate", 4, "`messages` a second of each server")
	history := flags.Duration("history", 6*time.Hour, "begin a new log this far in the past")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *path == "" && *broker == "" {
		return errors.New("nowhere to write to: give -log or -broker")
	}
	g, ctx := errgroup.WithContext(ctx)
	now := time.Now()
	if *path != "" {
		log := &rotating{path: *path, limit: 64 << 20}
		defer log.close()
		start := now.Add(-*history)
		if _, err := os.Stat(*path); err == nil {
			start = now // an earlier run has told the past
		}
		g.Go(func() error { return write(ctx, log, 1, *rate, start, now) })
	}
	if *broker != "" {
		w := &kafka.Writer{
			Addr: kafka.TCP(*broker), Topic: *topic, AllowAutoTopicCreation: true, Balancer: &kafka.Hash{},
			BatchTimeout: 10 * time.Millisecond, RequiredAcks: kafka.RequireAll, MaxAttempts: 60,
		}
		defer w.Close()
		g.Go(func() error { return write(ctx, &lines{ctx, w}, 2, *rate, now, now) })
	}
	return g.Wait()
}

// write lets a server write from start on, as fast as it can up to now and then
// at the pace of the clock.
func write(ctx context.Context, w io.Writer, seed uint64, rate float64, start, now time.Time) error {
	c := simulate.Config{Seed: seed, Start: start, Rate: rate}
	for at := now.Add(breaks); at.Before(now.Add(days * 24 * time.Hour)); at = at.Add(every) {
		c.Incidents = append(c.Incidents, simulate.Incident{
			Start: at, End: at.Add(lasts), SenderDomain: "shop.example", Provider: "gmail", Category: event.SPFFailed, Share: 0.6,
		})
	}
	mta, err := simulate.New(c)
	if err != nil {
		return err
	}
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := mta.WriteUntil(w, now); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case now = <-tick.C:
		}
	}
}

// rotating is a log file that is renamed when it has reached its limit. One
// older file is kept.
type rotating struct {
	path  string
	limit int64
	file  *os.File
	size  int64
}

func (r *rotating) Write(b []byte) (int, error) {
	if r.file != nil && r.size > r.limit {
		r.close()
		if err := os.Rename(r.path, r.path+".1"); err != nil {
			return 0, err
		}
	}
	if r.file == nil {
		f, err := os.OpenFile(r.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return 0, err
		}
		info, err := f.Stat()
		if err != nil {
			return 0, errors.Join(err, f.Close())
		}
		r.file, r.size = f, info.Size()
	}
	n, err := r.file.Write(b)
	r.size += int64(n)
	return n, err
}

func (r *rotating) close() {
	if r.file != nil {
		r.file.Close()
		r.file = nil
	}
}

// lines writes each line as a record of a topic. Those of one host keep their
// order, since they have its name as their key.
type lines struct {
	ctx context.Context // of the program
	w   *kafka.Writer
}

func (l *lines) Write(b []byte) (int, error) {
	var records []kafka.Message
	for line := range bytes.Lines(b) {
		records = append(records, record(line))
	}
	if err := l.w.WriteMessages(l.ctx, records...); err != nil {
		return 0, fmt.Errorf("write to topic %s: %w", l.w.Topic, err)
	}
	return len(b), nil
}

func record(line []byte) kafka.Message {
	value := bytes.Clone(bytes.TrimSuffix(line, []byte("\n")))
	host, _, _ := bytes.Cut(value[len(time.Stamp)+1:], []byte(" "))
	return kafka.Message{Key: host, Value: value}
}
