package kafkatest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bouncemeter/bouncemeter/internal/simulate"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/sqlite"
	"github.com/bouncemeter/bouncemeter/sinks/counts"
	"github.com/bouncemeter/bouncemeter/sinks/suppression"
	"github.com/bouncemeter/bouncemeter/test/internal/rig"
)

// patience is how long a test waits for what a loaded machine does slowly.
const patience = 2 * time.Minute

// daemon is a running program and its site.
type daemon struct {
	*rig.Site
	*rig.Daemon
}

// start runs the program with these settings, and its ledger in dir.
func start(t testing.TB, dir, settings string, environment ...string) daemon {
	t.Helper()
	site := rig.NewSite(t, rig.Build(t, ""), dir, settings)
	return daemon{site, site.Start(t, environment...)}
}

func (d daemon) counted(t testing.TB, n int) {
	t.Helper()
	d.Until(t, fmt.Sprintf("%d lines are counted", n), patience, func() bool { return d.Sum("bouncemeter_lines_total") >= float64(n) })
}

// report returns what the ledger says.
func (d daemon) report(t testing.TB) truth {
	t.Helper()
	return reported(t, rig.ReportJSON(t, d.Binary, "--ledger", d.Ledger))
}

func client(t testing.TB, addrs []string, more ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(addrs...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(15 << 20), kgo.ProducerBatchCompression(kgo.NoCompression()),
	}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// read returns the values of a topic by key, the last of each, once they are
// what is wanted; "" is a tombstone.
func read(t testing.TB, addrs []string, topic string, done func(map[string]string) bool) map[string]string {
	t.Helper()
	c := client(t, addrs, kgo.ConsumeTopics(topic), kgo.FetchMaxWait(100*time.Millisecond))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	values := make(map[string]string)
	for !done(values) {
		f := c.PollFetches(ctx)
		if err := f.Err0(); err != nil {
			t.Fatalf("%s: %v, %d keys", topic, err, len(values))
		}
		f.EachRecord(func(r *kgo.Record) { values[string(r.Key)] = string(r.Value) })
	}
	return values
}

// TestPoison runs the real program against a broker in this process.
func TestPoison(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a few seconds")
	}
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.BrokerConfigs(map[string]string{"message.max.bytes": "16777216"}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	testPoison(t, c.ListenAddrs())
}

// testPoison has records that are none among others: each is counted and kept as
// a dead letter with its topic, partition and offset, and the others are counted
// exactly.
func testPoison(t *testing.T, addrs []string) {
	m := newMaker()
	good := func() []byte { return m.next() }
	whole := string(newMaker().next())
	poison := []string{
		"\x00\xff\xfe\x01 garbage \x1b[31m", whole[:len(whole)/2], whole[:len(whole)-1], whole + "}", "[1,2]", "null", `"text"`, "42", "{}",
		"", " ", strings.Repeat("[", 200_000), strings.Repeat(`{"a":`, 50_000), `{"type":"Bounce","recipient":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "}",
		`{"type":"Bounce","response":"` + strings.Repeat("x", 10<<20) + `"}`, strings.Repeat("\n", 1000),
		strings.Replace(whole, `"timestamp":17`, `"timestamp":9e999,"x":17`, 1), strings.Replace(whole, `"sender":"`, "\"sender\":\"\xff\n", 1),
	}
	p := client(t, addrs)
	create(t, p, "events")
	var all, bad, last []*kgo.Record
	add := func(r *kgo.Record) *kgo.Record {
		r.Topic = "events"
		all = append(all, r)
		return r
	}
	const around = 20
	n := 0
	for i, value := range poison {
		partition := int32(i % partitions)
		for range around {
			add(&kgo.Record{Partition: partition, Value: good()})
		}
		add(&kgo.Record{Partition: partition, Key: []byte("k"), Value: nil}) // a tombstone is no record
		bad = append(bad, add(&kgo.Record{Partition: partition, Value: append([]byte{}, value...)}))
		n += around + 1
	}
	for partition := range int32(partitions) {
		last = append(last, add(&kgo.Record{Partition: partition, Value: good()}))
		n++
	}
	if err := p.ProduceSync(t.Context(), all...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	want := make(map[string]bool) // lane and offset
	for _, r := range bad {
		want[fmt.Sprintf("events/%d@%d", r.Partition, r.Offset)] = true
	}
	ends := make(map[int32]int64)
	for _, r := range last {
		ends[r.Partition] = r.Offset + 1
	}
	dir := t.TempDir()
	d := start(t, dir, fmt.Sprintf("sources: [{name: events, kind: kafka, brokers: [%q], topics: [events], group: poison, dialect: kumomta}]", addrs[0]))
	d.counted(t, n)
	malformed := len(poison) + 1 // both elements of [1,2] are records
	if got := d.Sum("bouncemeter_malformed_lines_total"); got != float64(malformed) {
		t.Errorf("%v records are malformed, want %d", got, malformed)
	}
	if got := d.Sum("bouncemeter_kafka_source_skipped_records_total"); got != float64(len(poison)) {
		t.Errorf("%v records are skipped, want the %d tombstones", got, len(poison))
	}
	d.Stop(t)
	// Tools that show the lag of the group see none.
	request := kmsg.NewPtrOffsetFetchRequest()
	group := kmsg.NewOffsetFetchRequestGroup()
	group.Group = "poison"
	request.Groups = append(request.Groups, group)
	answer, err := request.RequestWith(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	committed := make(map[int32]int64)
	for _, topic := range answer.Groups[0].Topics {
		for _, p := range topic.Partitions {
			committed[p.Partition] = p.Offset
		}
	}
	if diff := cmp.Diff(ends, committed); diff != "" {
		t.Errorf("offsets of the group, -ends +committed:\n%s", diff)
	}
	if diff := cmp.Diff(m.truth, d.report(t)); diff != "" {
		t.Errorf("-made +counted:\n%s", diff)
	}
	b, err := os.ReadFile(filepath.Join(dir, "dead-letter.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]bool)
	for line := range strings.Lines(string(b)) {
		var letter struct {
			Source, Lane, Error, Line string
			Offset                    int64
		}
		if err := json.Unmarshal([]byte(line), &letter); err != nil || letter.Source != "events" || letter.Error == "" {
			t.Errorf("%.300s: %v", line, err)
		}
		got[fmt.Sprintf("%s@%d", letter.Lane, letter.Offset)] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("dead letters, -made +kept:\n%s", diff)
	}
}

// TestFormats runs the real program against a broker in this process.
func TestFormats(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a few seconds")
	}
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	testFormats(t, c.ListenAddrs())
}

// testFormats has a topic for each format that KumoMTA's is not: lines of a mail
// server's syslog, and JSON of one's own with a map of its fields. (Classified
// records are those of testEdge.)
func testFormats(t *testing.T, addrs []string) {
	p := client(t, addrs)
	var log bytes.Buffer
	began := time.Now().Add(-time.Hour)
	mail, err := simulate.New(simulate.Config{Seed: 7, Start: began, RFC3339: true, RecipientDomains: 100})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mail.WriteUntil(&log, began.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	want, n := truth{map[string]int64{}, nil}, 0
	var records []*kgo.Record
	for line := range strings.Lines(log.String()) {
		if m := outcome.FindStringSubmatch(line); m != nil {
			want.Outcomes[outcomes[m[1]]]++
		}
		// A message's lines are in one partition, as those of one server are.
		records = append(records, &kgo.Record{Topic: "lines", Partition: 1, Value: []byte(strings.TrimSuffix(line, "\n"))})
	}
	for i := range 100 {
		result, outcome, reply := "ok", "delivered", "250 2.0.0 Ok"
		if i%4 == 0 {
			result, outcome, reply = "failed", "bounced", "550 5.1.1 No such user"
		}
		want.Outcomes[outcome]++
		records = append(records, &kgo.Record{Topic: "own", Partition: int32(i % partitions), Value: fmt.Appendf(nil,
			`{"when":%q,"from":"news@s.example","to":"user%d@d.test","event":{"result":%q,"reply":%q}}`, began.Add(time.Duration(i)*time.Second).Format(time.RFC3339), i, result, reply)})
	}
	n = len(records)
	for _, topic := range []string{"lines", "own"} {
		create(t, p, topic)
	}
	if err := p.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	d := start(t, dir, fmt.Sprintf(`
sources:
  - {name: lines, kind: kafka, brokers: [%[1]q], topics: [lines], dialect: postfix}
  - name: own
    kind: kafka
    brokers: [%[1]q]
    topics: [own]
    partitions: 0-1, 2, 3
    dialect: json
    fields: {time: when, sender: from, recipient: to, outcome: event.result, text: event.reply}
    outcomes: {delivered: [ok], bounced: [failed]}
`, addrs[0]))
	d.counted(t, n)
	malformed := d.Sum("bouncemeter_malformed_lines_total")
	d.Stop(t)
	got := d.report(t)
	got.Categories = nil
	if diff := cmp.Diff(want, got); diff != "" || malformed > 0 {
		t.Errorf("-made +counted:\n%s", diff)
	}
}

// TestEdge runs the real program against a broker in this process.
func TestEdge(t *testing.T) {
	if testing.Short() {
		t.Skip("takes many seconds")
	}
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	testEdge(t, c.ListenAddrs())
}

// TestServerDaemon runs the real program against a real Kafka.
func TestServerDaemon(t *testing.T) {
	s := Start(t)
	t.Run("poison", func(t *testing.T) { testPoison(t, []string{s.Addr}) })
	t.Run("formats", func(t *testing.T) { testFormats(t, []string{s.Addr}) })
	t.Run("edge and centre", func(t *testing.T) { testEdge(t, []string{s.Addr}) })
	t.Run("login", func(t *testing.T) { testLogin(t, s) })
}

// example returns an example configuration that works here.
func example(t testing.TB, name, dir string, addrs []string, pairs ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../configs", name))
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for _, pair := range [][2]string{
		{"[kafka1.example:9092, kafka2.example:9092]", `["` + addrs[0] + `"]`}, {"/var/lib/bouncemeter", dir}, {"http: {listen: 127.0.0.1:9725}\n", ""},
	} {
		pairs = append(pairs, pair[:]...)
	}
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("%s has no %s", name, pairs[i])
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

// testEdge runs configs/edge.yaml beside two mail servers, one of which is killed
// on the way, and configs/central.yaml, which also publishes counts and keeps the
// suppression list: the centre has what the logs say, and so have those who read
// the topics.
func testEdge(t *testing.T, addrs []string) {
	p := client(t, addrs)
	for _, topic := range []string{"classified", "counts", "suppressed"} {
		create(t, p, topic)
	}
	began := time.Now().Add(-time.Hour).Truncate(time.Minute)
	truth := map[string]int64{}
	for i, name := range []string{"mta1", "mta2"} {
		var log bytes.Buffer
		mail, err := simulate.New(simulate.Config{Seed: uint64(i + 1), Start: began, RFC3339: true, RecipientDomains: 200})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := mail.WriteUntil(&log, began.Add(12*time.Minute)); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(log.String()) {
			// What the format says, without our parser.
			if m := outcome.FindStringSubmatch(line); m != nil {
				truth[outcomes[m[1]]]++
			}
		}
		dir := t.TempDir()
		file := filepath.Join(dir, "mail.log")
		settings := example(t, "edge.yaml", dir, addrs, "mta1", name, "/var/log/mail.log", file) + "privacy: {addresses: keep}\n"
		half := bytes.LastIndexByte(log.Bytes()[:log.Len()/2], '\n') + 1
		if err := os.WriteFile(file, log.Bytes()[:half], 0o600); err != nil {
			t.Fatal(err)
		}
		edge := start(t, dir, settings)
		if i == 0 { // killed while it writes
			edge.Until(t, "it has written something", patience, func() bool { return edge.Sum("bouncemeter_sink_records_total") > 0 })
			edge.Kill(t)
		}
		f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(log.Bytes()[half:]); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			edge = start(t, dir, settings)
		}
		edge.counted(t, bytes.Count(log.Bytes(), []byte{'\n'}))
		edge.Stop(t)
	}
	dir := t.TempDir()
	list := filepath.Join(dir, "suppression.db")
	central := start(t, dir, example(t, "central.yaml", dir, addrs, "# event_ids:", "event_ids:")+fmt.Sprintf(`
sinks:
  - {name: counts, kind: kafka, content: counts, brokers: [%[1]q], topic: counts}
  - {name: list, kind: suppression, failures: 1, path: %[2]s, brokers: [%[1]q], topic: suppressed}
privacy: {addresses: keep}
`, addrs[0], list))
	total := func(outcomes map[string]int64) (sum int64) {
		for _, n := range outcomes {
			sum += n
		}
		return sum
	}
	central.Until(t, "everything is counted", patience, func() bool {
		return central.Ready() && central.Sum("bouncemeter_lane_lag") == 0 && total(central.report(t).Outcomes) >= total(truth)
	})
	if diff := cmp.Diff(truth, central.report(t).Outcomes); diff != "" {
		t.Errorf("-logs +centre:\n%s", diff)
	}

	position := func() int64 { return int64(central.Sum("bouncemeter_detector_position_timestamp_seconds")) }
	central.Until(t, "minutes are closed", patience, func() bool { return position() > began.Add(7*time.Minute).Unix() })
	closed := position()
	l, err := sqlite.OpenReadOnly(t.Context(), filepath.Join(dir, "ledger.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	rows, err := l.Query(t.Context(), ledger.Query{
		Until: closed, Step: 60, Limit: 1 << 24, By: []ledger.Dimension{ledger.ByOutcome, ledger.ByCategory, ledger.ByProvider, ledger.BySenderDomain, ledger.ByHost},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[string]int64)
	for _, r := range rows {
		want[fmt.Sprint(r.Start, r.Keys)] = r.Attempts
	}
	sums := func(values map[string]string) map[string]int64 {
		got := make(map[string]int64)
		for _, v := range values {
			var r counts.Row
			if err := json.Unmarshal([]byte(v), &r); err != nil {
				t.Fatal(err)
			}
			if r.Start.Unix() < closed {
				got[fmt.Sprint(r.Start.Unix(), []string{r.Outcome, r.Category, r.Provider, r.SenderDomain, r.Host})] += r.Attempts
			}
		}
		return got
	}
	published := read(t, addrs, "counts", func(v map[string]string) bool { return total(sums(v)) >= total(want) })
	if diff := cmp.Diff(want, sums(published)); diff != "" || len(want) < 100 {
		t.Errorf("%d rows; -ledger +topic:\n%.3000s", len(want), diff)
	}

	// The list, once all of it is published.
	listed := make(map[string]string)
	if err := suppression.Read(t.Context(), list, func(e *suppression.Entry) error {
		b, err := json.Marshal(e)
		listed[e.Address] = string(b)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	now := func(values map[string]string) map[string]string {
		got := make(map[string]string)
		for k, v := range values {
			if v != "" {
				got[k] = v
			}
		}
		return got
	}
	told := now(read(t, addrs, "suppressed", func(v map[string]string) bool { return cmp.Equal(listed, now(v)) }))
	if len(told) == 0 {
		t.Error("nobody is listed")
	}
	b := rig.Output(t, central.Binary, "suppression", "list", "-o", "json", list)
	if bytes.Count(b, []byte{'\n'}) != len(listed) {
		t.Errorf("suppression list: %d lines, want %d", bytes.Count(b, []byte{'\n'}), len(listed))
	}
	central.Stop(t)
	t.Logf("%d attempts, %d rows of counts, %d listed", total(truth), len(published), len(listed))
}

// outcome finds what became of a message for one recipient in a log of Postfix,
// but for probes of addresses.
var outcome = regexp.MustCompile(` postfix[-\w]*/(?:smtp|lmtp|local|pipe|virtual|error|discard|qmgr)\[\d+\]: .*status=(sent|deferred|bounced|expired)\b`)

var outcomes = map[string]string{"sent": "delivered", "deferred": "deferred", "bounced": "bounced", "expired": "expired"}

// testLogin gives the daemon a wrong password for what it reads, writes and
// tells: it says so, goes on once the file has the right one, and shows neither
// to anybody.
func testLogin(t *testing.T, s *Server) {
	p := client(t, []string{s.Addr})
	for _, topic := range []string{"secure-events", "secure-records", "secure-alerts"} {
		create(t, p, topic)
	}
	m := newMaker()
	const n = 100
	for i := range n {
		if err := p.ProduceSync(t.Context(), &kgo.Record{Topic: "secure-events", Partition: int32(i % partitions), Value: m.next()}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	password := filepath.Join(dir, "password")
	const wrong = "wrong-horse"
	set := func(text string) {
		if err := os.WriteFile(password, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set(wrong)
	cluster := fmt.Sprintf("brokers: [%q], tls: {enabled: true, ca_file: %s}, sasl: {mechanism: scram-sha-512, user: %s, password_file: %s}", s.SecureAddr, s.CAFile, User, password)
	d := start(t, dir, fmt.Sprintf(`
log: {level: debug}
sources: [{name: events, kind: kafka, topics: [secure-events], dialect: kumomta, %[1]s}]
sinks: [{name: records, kind: kafka, topic: secure-records, %[1]s}]
notify: [{name: alerts, kind: kafka, topic: secure-alerts, %[1]s}]
`, cluster))
	d.Until(t, "it says what is wrong", patience, func() bool { return strings.Contains(d.Output(), "sasl.user") })
	d.Get("/-/ready")
	if !strings.Contains(d.Output(), "password") {
		t.Errorf("no remedy:\n%s", d.Output())
	}
	said := d.Output()
	for _, page := range []string{"/", "/metrics", "/-/ready", "/sources", "/api/v1/lanes", "/api/v1/status", "/debug/vars"} {
		_, text := d.Get(page)
		said += text
	}
	set(Password)
	d.counted(t, n)
	read(t, []string{s.Addr}, "secure-records", func(map[string]string) bool { return d.Sum("bouncemeter_sink_records_total") == n })
	said += d.Output()
	_, metrics := d.Get("/metrics")
	said += metrics
	d.Stop(t)
	if diff := cmp.Diff(m.truth, d.report(t)); diff != "" {
		t.Errorf("-made +counted:\n%s", diff)
	}
	for _, secret := range []string{wrong, Password} {
		if strings.Contains(said+d.Output(), secret) {
			t.Errorf("a password is shown:\n%s", said)
		}
	}
}
