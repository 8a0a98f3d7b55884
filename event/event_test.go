package event

import (
	"bytes"
	"strings"
	"testing"
)

func TestParseEnhanced(t *testing.T) {
	for _, test := range []struct {
		in   string
		want string
		n    int
	}{
		{"5.1.1", "5.1.1", 5},
		{"5.1.1 User unknown", "5.1.1", 5},
		{"4.7.28: slow", "4.7.28", 6},
		{"5.7.515 Access denied", "5.7.515", 7},
		{"2.0.0", "2.0.0", 5},
		{"5.7.1.", "5.7.1", 5},
		{"3.1.1", "", 0},    // no such class
		{"5.1", "", 0},      // too short
		{"5.1.1000", "", 0}, // four digits
		{"5.1.1.1", "", 0},  // an IP address
		{"5.1.1a", "", 0},   // a version
		{"5..1", "", 0},     //
		{"55.1.1", "", 0},   //
		{"4.4.1-queued", "4.4.1", 5},
	} {
		e, n := ParseEnhanced([]byte(test.in))
		if e.String() != test.want || n != test.n {
			t.Errorf("%q: got %q, %d; want %q, %d", test.in, e, n, test.want, test.n)
		}
	}
}

func TestCategoriesAreComplete(t *testing.T) {
	for _, c := range Categories() {
		i := c.Info()
		if i.ID == "" || i.Group == "" || i.Owner == "" || i.Meaning == "" || i.Advice == "" {
			t.Errorf("category %d is not complete: %+v", c, i)
		}
		if i.ID != strings.ToLower(i.ID) || strings.ContainsAny(i.ID, " -") {
			t.Errorf("id %q is not lower snake case", i.ID)
		}
		if back, ok := CategoryByID(i.ID); !ok || back != c {
			t.Errorf("id %q leads to %d, not %d", i.ID, back, c)
		}
	}
}

func TestOutcomes(t *testing.T) {
	for _, o := range Outcomes {
		if back, ok := OutcomeByName(o.String()); !ok || back != o || o.String() == "" {
			t.Errorf("outcome %d has the name %q, which leads to %d", o, o, back)
		}
	}
}

func TestDomain(t *testing.T) {
	for in, want := range map[string]string{
		"a@example.com": "example.com", `"a@b"@example.com`: "example.com", "a@example.com.": "example.com", "root": "", "": "", "@": "",
	} {
		if got := Domain([]byte(in)); string(got) != want {
			t.Errorf("Domain(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestPrivacy(t *testing.T) {
	p := Privacy{}
	for in, want := range map[string]string{
		"to=<joe@example.com>, relay":      "to=<*@example.com>, relay",
		"no address here":                  "no address here",
		"joe@example.com":                  "*@example.com",
		`<"joe doe"@example.com>: unknown`: `<*@example.com>: unknown`,
		"see http://x.example/?a=joe%40example.com":/* rather too much than too little */ "see http:*%40example.com",
		"b+joe=example.com@lists.example":             "*@lists.example",
		"a@b@example.com":                             "*@*@example.com",
		"müller@example.de":                           "*@example.de",
		"@":                                           "@",
		"<@example.com>":                              "<@example.com>",
		`unterminated joe"@example.com`:               "*@example.com",
		"joe@example.com, ann@example.com (joe@x.de)": "*@example.com, *@example.com (*@x.de)",
	} {
		if got := string(p.Append(nil, []byte(in))); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
	keep := Privacy{Addresses: KeepAddresses}
	if got := string(keep.Append(nil, []byte("joe@example.com"))); got != "joe@example.com" {
		t.Errorf("keep changed it to %q", got)
	}
	one, two := Privacy{HashLocal, []byte("key one")}, Privacy{HashLocal, []byte("key two")}
	a, b := one.Append(nil, []byte("joe@example.com")), two.Append(nil, []byte("joe@example.com"))
	if bytes.Equal(a, b) || !bytes.HasSuffix(a, []byte("@example.com")) || bytes.Contains(a, []byte("joe")) {
		t.Errorf("hashes: %s, %s", a, b)
	}
}

// Whatever surrounds it, the local part of an address does not get through.
func FuzzPrivacy(f *testing.F) {
	f.Add("to=<", ">, x")
	f.Add(`"`, `"`)
	f.Add("=", "%40")
	f.Fuzz(func(t *testing.T, before, after string) {
		const secret = "josephine.secret"
		if strings.Contains(before+after, "josephine") {
			t.Skip()
		}
		got := Privacy{}.Append(nil, []byte(before+secret+"@example.com"+after))
		if bytes.Contains(got, []byte("josephine")) {
			t.Errorf("%q keeps the local part", got)
		}
	})
}

func TestKinds(t *testing.T) {
	for k := Attempt; k <= Notice; k++ {
		if back, ok := KindByName(k.String()); !ok || back != k || k.String() == "" {
			t.Errorf("kind %d has the name %q, which leads to %d", k, k, back)
		}
	}
	if Kind(200).String() != "" {
		t.Error("a kind that is none has a name")
	}
}

func TestAddressesOneByOne(t *testing.T) {
	domain, hash := Privacy{}, Privacy{Addresses: HashLocal, Key: []byte("0123456789abcdef")}
	for in, want := range map[string]string{
		"": "", "ann@example.com": "*@example.com", "root": "*", `"a b"@example.com`: "*@example.com",
		"a@b@example.com": "*@example.com", "ann@b%40example.com": "*@b%40example.com", "@example.com": "*@example.com", "|/bin/program -x": "*",
	} {
		if got := string(domain.AppendAddress(nil, []byte(in))); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
	// The same person has the same hash in a field and in a text.
	if a, b := hash.AppendAddress(nil, []byte("ann@example.com")), hash.Append(nil, []byte("ann@example.com")); !bytes.Equal(a, b) {
		t.Errorf("%s in a field, %s in a text", a, b)
	}
	keep := Privacy{Addresses: KeepAddresses}
	if got := string(keep.AppendAddress([]byte("<"), []byte("ann@example.com"))); got != "<ann@example.com" {
		t.Errorf("kept as %q", got)
	}
}

// Eight bytes at once find the same @ as one by one, whatever stands around it.
func TestLastAt(t *testing.T) {
	for n := range 20 {
		for fill := range 256 {
			b := bytes.Repeat([]byte{byte(fill)}, n)
			if want := bytes.LastIndexByte(b, '@'); lastAt(b) != want {
				t.Fatalf("% x: %d, want %d", b, lastAt(b), want)
			}
			for at := range n {
				b[at] = '@'
				if want := bytes.LastIndexByte(b, '@'); lastAt(b) != want {
					t.Fatalf("% x: %d, want %d", b, lastAt(b), want)
				}
				b[at] = byte(fill)
			}
		}
	}
}
