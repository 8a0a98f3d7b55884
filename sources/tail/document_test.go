package tail

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/bouncemeter/bouncemeter/event"
)

func TestDocument(t *testing.T) {
	long := `{"text":"` + strings.Repeat("x", firstLineBytes/2) + `"}`
	for name, test := range map[string]struct {
		in   string
		want []string
	}{
		"a record a line":             {"{\"a\":1}\n{\"a\": 2}\n", []string{`{"a":1}`, `{"a": 2}`}},
		"an array a line":             {"[{\"a\":1},{\"a\":2}]\n[{\"a\":3}]\n", []string{`[{"a":1},{"a":2}]`, `[{"a":3}]`}},
		"a log":                       {"[NOTICE] [x] {\n", []string{"[NOTICE] [x] {"}},
		"text":                        {"hello {\n[\n", []string{"hello {", "["}},
		"an indented object":          {"{\n  \"a\": [1, 2],\n  \"b\": \"x \\\" }\\\\\"\n}\n", []string{`{"a":[1,2],"b":"x \" }\\"}`}},
		"indented objects":            {"{\n\"a\": 1\n}\n{\n\"a\": 2\n}", []string{`{"a":1}`, `{"a":2}`}},
		"an indented array":           {"[\n  {\n    \"a\": {\"b\": []}\n  },\n  {}\n]\n", []string{`{"a":{"b":[]}}`, `{}`}},
		"an array, an element a line": {"[{\"a\":1},\r\n{\"a\":2}]\r\n", []string{`{"a":1}`, `{"a":2}`}},
		"blank lines first":           {"\n  \n[\n{\"a\":1}]", []string{`{"a":1}`}},
		"a byte order mark":           {"\xef\xbb\xbf[\n{\"a\":1}]", []string{`{"a":1}`}},
		"elements that are no object": {"[\n1, \"a b\",\n[2, 3]\n]", []string{`1`, `"a b"`, `[2,3]`}},
		"several arrays":              {"[\n{\"a\":1}\n]\n[\n{\"a\":2}\n]\n", []string{`{"a":1}`, `{"a":2}`}},
		"a long array on a line":      {"[" + long + "," + long + "," + long + "]", []string{long, long, long}},
		"records without a line end":  {"{\"a\":1}{\"a\":[2]} {}", []string{`{"a":1}`, `{"a":[2]}`, `{}`}},
		"many of them":                {long + long + long, []string{long, long, long}},
		"broken":                      {"[\n{\"a\":1},\n{\"a\":", []string{`{"a":1}`, `{"a":`}},
		"nothing":                     {"", nil},
	} {
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		if _, err := z.Write([]byte(test.in)); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		for file, content := range map[string]string{"plain": test.in, "packed": packed.String()} {
			path := filepath.Join(t.TempDir(), file)
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := readLines(t, path, FilesOptions{MaxLineBytes: 1 << 20}); !slices.Equal(got, test.want) {
				t.Errorf("%s, %s: got %.200q, want %.200q", name, file, got, test.want)
			}
			in, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = io.Copy(w, in)
				_ = w.Close()
				_ = in.Close()
			}()
			if got := readLines(t, "-", FilesOptions{MaxLineBytes: 1 << 20, Stdin: r}); !slices.Equal(got, test.want) {
				t.Errorf("%s, %s, as standard input: got %.200q, want %.200q", name, file, got, test.want)
			}
			<-done
		}
		// In whatever pieces it comes.
		whole, err := io.ReadAll(lines(bufio.NewReaderSize(strings.NewReader(test.in), firstLineBytes)))
		if err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReaderSize(iotest.OneByteReader(strings.NewReader(test.in)), firstLineBytes)
		if pieces, err := io.ReadAll(lines(in)); err != nil || !bytes.Equal(whole, pieces) {
			t.Errorf("%s: byte by byte %q, as a whole %q, %v", name, pieces, whole, err)
		}
	}
}

// readLines returns the lines of one file.
func readLines(t *testing.T, path string, o FilesOptions) (lines []string) {
	t.Helper()
	files, err := OpenFiles([]string{path}, o)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	var b event.Batch
	for {
		switch err := files.Read(t.Context(), &b); {
		case err == io.EOF:
			return lines
		case err != nil:
			t.Fatal(err)
		}
		for _, l := range b.Lines {
			lines = append(lines, string(l.Text))
		}
	}
}

// The first line of a stream is not waited for longer than it takes to see that
// it is no document.
func TestStreamIsNotHeldUp(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	go func() { _, _ = w.Write([]byte("Jan 12")) }()
	p := make([]byte, 100)
	if n, err := lines(bufio.NewReaderSize(r, firstLineBytes)).Read(p); err != nil || string(p[:n]) != "Jan 12" {
		t.Errorf("%q, %v", p[:n], err)
	}
}

// FuzzDocument compares with encoding/json: a line for each value, and for each
// element of an array on the top level.
func FuzzDocument(f *testing.F) {
	for _, s := range []string{"[\n{\"a\":[1,\"x\\\"]\"]},\n{}\n]", "{\n\"a\":1}{\"b\":[]}[1,2]", "[[1],[{}]]\n[]", "{\"a\":\"[{\\\\\"}", "[\"a b\", 1 , null]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := io.ReadAll(&document{r: iotest.HalfReader(strings.NewReader(text))})
		if err != nil {
			t.Fatal(err)
		}
		if len(got) > 2*len(text)+1 {
			t.Fatalf("%d bytes of %d", len(got), len(text))
		}
		var want bytes.Buffer
		add := func(raw json.RawMessage) {
			if err := json.Compact(&want, raw); err != nil {
				t.Fatal(err)
			}
			want.WriteByte('\n')
		}
		for d := json.NewDecoder(strings.NewReader(text)); ; {
			var value json.RawMessage
			if err := d.Decode(&value); err == io.EOF {
				break
			} else if err != nil {
				return // what is broken is somebody else's business
			}
			var elements []json.RawMessage
			switch {
			case value[0] == '[' && json.Unmarshal(value, &elements) == nil:
				for _, e := range elements {
					add(e)
				}
			case value[0] == '{':
				add(value)
			default:
				return // no record
			}
		}
		if want.String() != string(got) {
			t.Errorf("%q is read as %q, want %q", text, got, want.String())
		}
	})
}
