package kafkatest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
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
)

// patience is how long a test waits for what a loaded machine does slowly.
const patience = 2 * time.Minute

// programDir is where the program is built; TestMain removes it.
var programDir string

// program is the real program, built once.
var program = sync.OnceValues(func() (string, error) {
	var err error
	if programDir, err = os.MkdirTemp("", "kafkatest"); err != nil {
		return "", err
	}
	file := filepath.Join(programDir, "bouncemeter")
	build := exec.Command("go", "build", "-o", file, "./cmd/bouncemeter")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return file, nil
})

func built(t testing.TB) string {
	t.Helper()
	file, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// daemon is a running program.
type daemon struct {
	t       testing.TB
	dir     string // has its configuration, ledger and dead letters
	command *exec.Cmd
	ended   chan struct{} // closed when it has ended
	code    int           // its exit code, then

	mu     sync.Mutex
	output bytes.Buffer
	url    string
}

// start runs the program with these settings, whose ledger is in dir, and waits
// until it serves.
func start(t testing.TB, dir, settings string) *daemon {
	t.Helper()
	d := &daemon{t: t, dir: dir, ended: make(chan struct{})}
	config := filepath.Join(dir, "bouncemeter.yaml")
	if err := os.WriteFile(config, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	d.command = exec.Command(built(t), "run", "-c", config)
	log, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	d.command.Stdout, d.command.Stderr = w, w
	if err := d.command.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	go func() {
		url := regexp.MustCompile(`http=(http://\S+)`)
		for lines := bufio.NewScanner(log); lines.Scan(); {
			d.mu.Lock()
			d.output.WriteString(lines.Text() + "\n")
			if m := url.FindStringSubmatch(lines.Text()); m != nil {
				d.url = m[1]
			}
			d.mu.Unlock()
		}
		_ = log.Close()
		_ = d.command.Wait() // the exit code tells
		d.code = d.command.ProcessState.ExitCode()
		close(d.ended)
	}()
	t.Cleanup(func() {
		d.kill()
		if t.Failed() {
			t.Logf("the daemon's log:\n%.20000s", d.log())
		}
	})
	d.wait("it serves", func() bool { return d.address() != "" })
	return d
}

func (d *daemon) address() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.url
}

func (d *daemon) log() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.output.String()
}

// kill ends it as a crash does.
func (d *daemon) kill() {
	_ = d.command.Process.Kill()
	<-d.ended
}

// stop ends it in good order.
func (d *daemon) stop() {
	d.t.Helper()
	if err := d.command.Process.Signal(syscall.SIGTERM); err != nil {
		d.t.Fatal(err)
	}
	select {
	case <-d.ended:
	case <-time.After(patience):
		d.t.Fatal("the daemon does not stop")
	}
	if d.code != 0 {
		d.t.Fatalf("the daemon stopped with code %d\n%s", d.code, d.log())
	}
}

func (d *daemon) wait(what string, done func() bool) {
	d.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); !done(); {
		select {
		case <-tick.C:
		case <-d.ended:
			d.t.Fatalf("waiting until %s: the daemon ended\n%s", what, d.log())
		case <-late:
			d.t.Fatalf("waited too long until %s\n%s", what, d.log())
		}
	}
}

// get returns what the web server says.
func (d *daemon) get(path string) string {
	r, err := http.Get(d.address() + path)
	if err != nil {
		return "" // it has ended
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		d.t.Error(err)
	}
	return string(b)
}

// metric returns the sum of a metric over labels.
func (d *daemon) metric(name string) (sum float64) {
	for line := range strings.Lines(d.get("/metrics")) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		var v float64
		if _, err := fmt.Sscan(rest[strings.LastIndexByte(rest, ' ')+1:], &v); err != nil {
			d.t.Fatalf("%s: %v", line, err)
		}
		sum += v
	}
	return sum
}

func (d *daemon) counted(n int) {
	d.t.Helper()
	d.wait(fmt.Sprintf("%d lines are counted", n), func() bool { return d.metric("bouncemeter_lines_total") >= float64(n) })
}

// report returns what the ledger says.
func (d *daemon) report() truth {
	d.t.Helper()
	b, err := exec.Command(built(d.t), "report", "--ledger", filepath.Join(d.dir, "ledger.db"), "-o", "json").Output()
	if err != nil {
		d.t.Fatal(err)
	}
	return reported(d.t, b)
}

// local are settings of every daemon here.
func local(dir string) string {
	return fmt.Sprintf("\nledger: {sqlite: %s/ledger.db}\nhttp: {listen: \"127.0.0.1:0\"}\n", dir)
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
	d := start(t, dir, fmt.Sprintf("sources: [{name: events, kind: kafka, brokers: [%q], topics: [events], group: poison, dialect: kumomta}]", addrs[0])+local(dir))
	d.counted(n)
	if got := d.metric("bouncemeter_malformed_lines_total"); got != float64(len(poison)) {
		t.Errorf("%v records are malformed, want %d", got, len(poison))
	}
	if got := d.metric("bouncemeter_kafka_source_skipped_records_total"); got != float64(len(poison)) {
		t.Errorf("%v records are skipped, want the %d tombstones", got, len(poison))
	}
	d.stop()
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
	if diff := cmp.Diff(m.truth, d.report()); diff != "" {
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
`, addrs[0])+local(dir))
	d.counted(n)
	malformed := d.metric("bouncemeter_malformed_lines_total")
	d.stop()
	got := d.report()
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
		{"[kafka1.example:9092, kafka2.example:9092]", `["` + addrs[0] + `"]`}, {"/var/lib/bouncemeter", dir}, {"127.0.0.1:9725", `"127.0.0.1:0"`},
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
			edge.wait("it has written something", func() bool { return edge.metric("bouncemeter_sink_records_total") > 0 })
			edge.kill()
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
		edge.counted(bytes.Count(log.Bytes(), []byte{'\n'}))
		edge.stop()
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
	central.wait("everything is counted", func() bool {
		return total(central.report().Outcomes) >= total(truth) && central.metric("bouncemeter_lane_lag") == 0
	})
	if diff := cmp.Diff(truth, central.report().Outcomes); diff != "" {
		t.Errorf("-logs +centre:\n%s", diff)
	}

	position := func() int64 { return int64(central.metric("bouncemeter_detector_position_timestamp_seconds")) }
	central.wait("minutes are closed", func() bool { return position() > began.Add(7*time.Minute).Unix() })
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
	b, err := exec.Command(built(t), "suppression", "list", "-o", "json", list).Output()
	if err != nil || bytes.Count(b, []byte{'\n'}) != len(listed) {
		t.Errorf("suppression list: %v, %d lines, want %d", err, bytes.Count(b, []byte{'\n'}), len(listed))
	}
	central.stop()
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
`, cluster)+local(dir))
	d.wait("it says what is wrong", func() bool { return strings.Contains(d.log(), "sasl.user") })
	d.get("/-/ready")
	if !strings.Contains(d.log(), "password") {
		t.Errorf("no remedy:\n%s", d.log())
	}
	said := d.log()
	for _, page := range []string{"/", "/metrics", "/-/ready", "/sources", "/api/v1/lanes", "/api/v1/status", "/debug/vars"} {
		said += d.get(page)
	}
	set(Password)
	d.counted(n)
	read(t, []string{s.Addr}, "secure-records", func(map[string]string) bool { return d.metric("bouncemeter_sink_records_total") == n })
	said += d.log() + d.get("/metrics")
	d.stop()
	if diff := cmp.Diff(m.truth, d.report()); diff != "" {
		t.Errorf("-made +counted:\n%s", diff)
	}
	for _, secret := range []string{wrong, Password} {
		if strings.Contains(said+d.log(), secret) {
			t.Errorf("a password is shown:\n%s", said)
		}
	}
}
