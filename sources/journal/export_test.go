package journal

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// entries decodes data that comes in pieces of size bytes, as from a pipe.
func entries(most int, data []byte, size int) (all []string, err error) {
	d := decoder{max: most}
	var buffer []byte
	for len(data) > 0 {
		n := min(size, len(data))
		buffer, data = append(buffer, data[:n]...), data[n:]
		for {
			used, done, err := d.next(buffer)
			buffer = buffer[used:]
			if err != nil {
				return all, err
			}
			if !done {
				break
			}
			var b strings.Builder
			for i, value := range d.entry.fields {
				if d.entry.has[i] {
					fmt.Fprintf(&b, "%s=%q ", fieldNames[i], value)
				}
			}
			if d.entry.truncated {
				b.WriteString("…")
			}
			all = append(all, b.String())
		}
		if len(buffer) > d.room()+size {
			return all, fmt.Errorf("%d bytes are held", len(buffer))
		}
	}
	return all, nil
}

func TestExportModel(t *testing.T) {
	names := append([]string{"PRIORITY", "COREDUMP"}, fieldNames[:]...)
	rapid.Check(t, func(t *rapid.T) {
		const most = 50
		var data []byte
		var want []string
		for range rapid.IntRange(1, 5).Draw(t, "entries") {
			var fields []string
			values := make(map[string]string)
			truncated := false
			for range rapid.IntRange(1, 6).Draw(t, "fields") {
				name := rapid.SampledFrom(names).Draw(t, "name")
				value := string(rapid.SliceOfN(rapid.Byte(), 0, 120).Draw(t, "value"))
				fields = append(fields, name, value)
				if _, again := values[name]; again {
					continue
				}
				if len(value) > most {
					value = value[:most]
					truncated = truncated || name == "MESSAGE"
				}
				values[name] = value
			}
			data = append(data, encode(fields)...)
			var b strings.Builder
			for _, name := range fieldNames {
				if value, ok := values[name]; ok {
					fmt.Fprintf(&b, "%s=%q ", name, value)
				}
			}
			if truncated {
				b.WriteString("…")
			}
			want = append(want, b.String())
		}
		got, err := entries(most, data, rapid.IntRange(1, len(data)).Draw(t, "size"))
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Fatalf("%v (-want +got)\n%s", err, diff)
		}
	})
}

func TestExport(t *testing.T) {
	for in, want := range map[string]string{
		"-- Logs begin at Mon 2026-01-12. --\n\nMESSAGE=x\n\n-- Reboot --\nMESSAGE=y\n\n": `MESSAGE="x" |MESSAGE="y" `,
		"\n\n\nMESSAGE=a=b\nX=1\n\n":                `MESSAGE="a=b" `,
		"MESSAGE=half":                              "",
		"Usage: journalctl\n":                       errExport.Error(),
		"MESSAGE\n\xff\xff\xff\xff\xff\xff\xff\xff": errExport.Error(),
		"A=1\n-- Reboot --\n":                       errExport.Error(),
	} {
		got, err := entries(100, []byte(in), 3)
		text := strings.Join(got, "|")
		if err != nil {
			text = err.Error()
		}
		if text != want {
			t.Errorf("%q is %s, want %s", in, text, want)
		}
	}
}

func TestCursor(t *testing.T) {
	for _, test := range []struct {
		in, id string
		number int64
		ok     bool
	}{
		{"s=aac587a060924e02b9d6382d42ee9ddc;i=1f;b=0123;m=f4241;t=66108bbf08a40;x=3b", "aac587a060924e02b9d6382d42ee9ddc", 31, true},
		{"s=a;i=0", "a", 0, true},
		{"", "", 0, false},
		{"s=;i=1", "", 0, false},
		{"i=1;s=a", "", 0, false},
		{"s=a;i=-1", "", 0, false},
		{"s=a;i=ffffffffffffffffff", "", 0, false},
	} {
		id, number, ok := cursorSequence([]byte(test.in))
		if ok != test.ok || ok && (string(id) != test.id || number != test.number) {
			t.Errorf("%q is %s, %d, %v", test.in, id, number, ok)
		}
	}
	var e entry
	e.has[fieldSequence], e.has[fieldSequenceID] = true, true
	e.fields[fieldSequence], e.fields[fieldSequenceID] = []byte("7"), []byte("bb")
	e.fields[fieldCursor] = []byte("s=aa;i=1")
	if id, n, ok := e.sequence(); string(id) != "bb" || n != 7 || !ok {
		t.Errorf("the sequence is %s, %d, %v", id, n, ok)
	}
}

// How the output is cut up in the pipe does not matter, and memory is bounded.
func FuzzExport(f *testing.F) {
	f.Add(encode([]string{"__CURSOR", "s=a;i=1", "MESSAGE", "two\nlines", "X", "y"}), uint8(3))
	f.Add([]byte("-- Reboot --\nMESSAGE=x\n\nMESSAGE\n\x03\x00\x00\x00\x00\x00\x00\x00a\nb\n\n"), uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, size uint8) {
		one, oneErr := entries(40, bytes.Clone(data), len(data)+1)
		two, twoErr := entries(40, data, int(size)+1)
		if diff := cmp.Diff(one, two); diff != "" || (oneErr == nil) != (twoErr == nil) {
			t.Errorf("%v, by %d bytes %v (-whole +in pieces)\n%s", oneErr, size, twoErr, diff)
		}
	})
}

func BenchmarkExport(b *testing.B) {
	data := encode([]string{
		"__CURSOR", cursor(1), "__REALTIME_TIMESTAMP", "1768190467123456", "__MONOTONIC_TIMESTAMP", "1", "_BOOT_ID", "0123456789abcdef0123456789abcdef",
		"MESSAGE", "4F2A1B3C: to=<ann@example.com>, relay=mx.example.com[192.0.2.1]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 2.0.0 OK)",
		"SYSLOG_IDENTIFIER", "postfix/smtp", "_PID", "311", "SYSLOG_PID", "311", "_HOSTNAME", "mx1", "_COMM", "smtp",
	})
	d := decoder{max: DefaultMaxLine}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if used, done, err := d.next(data); used != len(data) || !done || err != nil {
			b.Fatal(used, done, err)
		}
	}
}
