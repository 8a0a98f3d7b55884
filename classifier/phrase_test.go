package classifier

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// finds compiles one phrase and looks for it.
func finds(t *testing.T, words map[string][]string, phrase, reply string) bool {
	t.Helper()
	c := newPhraseCompiler()
	c.words = words
	if _, err := c.add(phrase, 7); err != nil {
		t.Fatal(err)
	}
	s := newScanner(c.finish())
	var x text
	x.normalise([]byte(reply), c.keep)
	s.scan(x.buf)
	return slices.ContainsFunc(s.hits, func(h hit) bool { return slices.Contains(s.a.phrases[h.from:h.to], 7) })
}

func TestPhrases(t *testing.T) {
	words := map[string][]string{"user": {"user", "mail box", "{person}"}, "person": {"person", "human being*"}}
	for _, tt := range []struct {
		phrase, reply string
		want          bool
	}{
		{"mailbox full", "550 The mailbox is full!", true},
		{"mailbox full", "550 mailbox-full", true},
		{"mailbox full", "550 MAILBOX_FULL", true},
		{"mailbox full", "550 mailbox <a@example.com> full", true},
		{"mailbox full", "550 mailbox nearly full", false},
		{"mailbox full", "550 full mailbox", false},
		{"mailbox full", "550 mailbox. Full", false}, // another sentence
		{"mailbox full", "550 mailboxes full", false},
		{"mailbox* full", "550 mailboxes full", true},
		{"mailbox ~ full", "550 mailbox really very nearly full", true},
		{"mailbox ~ full", "550 mailbox really very very nearly full", false},
		{"mailbox .. full", "550 mailbox for which I can not do anything as it is full", true},
		{"mailbox .. full", "550 full mailbox", false},
		{"(mailbox|mail box|inbox) (full|over quota)", "550 mail box over quota", true},
		{"(mailbox|mail box) full", "550 box full", false},
		{"(a|(b|c) d) e", "550 C D E", true},
		{"(junk|junk mail) mail", "550 junk mail", true}, // whatever else ends with the last word
		{"(junk|junk mail) ~ (mail|rejected mail)", "550 junk rejected mail", true},
		{"mail* mailing mail", "550 mailing mailing mail", true}, // a stem and a word that has it
		{"(mail*|mailing) full", "550 mailings full", true},
		{"(mail|box)* full", "550 mailing full", true},
		{"{user} unknown", "550 human beings unknown", true},
		{"{user} unknown", "550 mail box unknown", true},
		{"no IP", "550 no 192.0.2.1 please", true},
		{"no IP", "550 no ip", false},
		{"IP blocked", "550 [192.0.2.1] is blocked", true},
		{"ADDR .. HOST", "550 <a@example.com> at mx.example.com", true},
		{"code N", "550 code 17", true},
		{"s3140", "550 block list (S3140)", true},
		{"s3140", "550 block list (S3141)", false},
		{"lpn#", "550 LPN007_420", true},
		{"lpn#", "550 lpn", false},
		{"list.example", "550 see http://www.list.example/x", true},
		{"list.example", "550 see http://notlist.example/x", false},
		{"e-mail refused", "550 e-mail refused", true},
		{"doesn't exist", "550 doesn't exist", true},
		{"boîte pleine", "550 boite pleine", true},
		{"boîte pleine", "550 BOÎTE PLEINE", true},
		{"boîte pleine", "550 bo?te pleine", true},
		{"boîte pleine", "550 bo??te pleine", true},
		{"boîte pleine", "550 bo=C3=AEte pleine", true},
		{"désactivé", "550 d?sactiv?", true},
		{"člen* missing", "550 length missing", false}, // ?len is no longer the word
		{"účtu missing", "550 ctu missing", false},
		{"größe", "550 Groesse", true},
		{"邮箱已满", "550 您的邮箱已满,无法", true},
		{"邮箱 .. 满", "550 邮箱真的已经满了", true},
		{"邮箱 满", "550 邮箱真的已经满了", false},
		{"dns错误", "550 DNS错误", true},
		{"dns错误", "550 DNS", false},
		{"ящик* переполнен", "550 Ящика переполнен", true},
	} {
		if got := finds(t, words, tt.phrase, tt.reply); got != tt.want {
			t.Errorf("%q in %q: %v, want %v", tt.phrase, tt.reply, got, tt.want)
		}
	}
}

// Against a plain search: phrases of words and gaps over a small vocabulary.
func TestPhrasesAgreeWithPlainSearch(t *testing.T) {
	vocabulary := []string{"alpha", "beta", "gamma", "delta"}
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.SampledFrom(vocabulary), 1, 3).Draw(t, "parts")
		gaps := rapid.SliceOfN(rapid.SampledFrom([]string{"", "~", ".."}), len(parts), len(parts)).Draw(t, "gaps")
		reply := rapid.SliceOfN(rapid.SampledFrom(append([]string{"other"}, vocabulary...)), 0, 12).Draw(t, "reply")
		distinct := slices.Compact(slices.Sorted(slices.Values(parts)))
		if len(distinct) < len(parts) {
			return // a word that follows itself is compared with its last place only
		}
		phrase := parts[0]
		for i, p := range parts[1:] {
			phrase += " " + gaps[i] + " " + p
		}
		// ends has the places where the first parts may end.
		var ends []int
		for i, w := range reply {
			if w == parts[0] {
				ends = append(ends, i)
			}
		}
		for i, p := range parts[1:] {
			var next []int
			for j, w := range reply {
				if w == p && slices.ContainsFunc(ends, func(e int) bool {
					between := j - e - 1
					return between == 0 || between > 0 && (gaps[i] == ".." || gaps[i] == "~" && between <= int(gapNear))
				}) {
					next = append(next, j)
				}
			}
			ends = next
		}
		c := newPhraseCompiler()
		if _, err := c.add(phrase, 0); err != nil {
			t.Fatal(err)
		}
		s := newScanner(c.finish())
		var x text
		x.normalise([]byte(strings.Join(reply, " ")), c.keep)
		s.scan(x.buf)
		if found := len(s.hits) > 0; found != (len(ends) > 0) {
			t.Fatalf("%q in %v: %v, want %v", phrase, reply, found, len(ends) > 0)
		}
	})
}

// The trie finds each word, and each beginning of it that is a stem, and
// nothing else; and each word knows the longest such beginning.
func TestWordTrie(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-cü]{1,6}\*?`), 1, 60, rapid.ID[string]).Draw(t, "words")
		b := trieBuilder{terms: map[string]term{}}
		for _, w := range words {
			b.term(w)
		}
		trie, stems := b.build()
		for _, w := range words {
			longest := ""
			for _, x := range words {
				if stem, ok := strings.CutSuffix(x, "*"); ok && x != w && strings.HasPrefix(strings.TrimSuffix(w, "*"), stem) && len(x) > len(longest) {
					longest = x
				}
			}
			got := ""
			if t := stems[b.terms[w]]; t != noTerm {
				got = b.names[t]
			}
			if got != longest {
				t.Fatalf("%q begins with the stem %q, want %q, of %v", w, got, longest, words)
			}
		}
		word := rapid.StringMatching(`[a-cü]{1,8}`).Draw(t, "word")
		var got []string
		state := trie[0]
		for i := 0; i < len(word); i++ {
			if state = trie[state.base+int32(word[i])]; state.byte != word[i] {
				break
			}
			if state.ends&endsStem != 0 {
				got = append(got, b.names[trie[state.base+stemChild].base])
			}
			if state.ends&endsWord != 0 && i+1 == len(word) {
				got = append(got, b.names[trie[state.base+wordChild].base])
			}
		}
		var want []string
		for _, w := range words {
			if stem, ok := strings.CutSuffix(w, "*"); ok && strings.HasPrefix(word, stem) || w == word {
				want = append(want, w)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("%q in %v: %v, want %v", word, words, got, want)
		}
	})
}

func ExampleClassifier_Explain() {
	c, err := New(Options{})
	if err != nil {
		panic(err)
	}
	x := c.Explain(eventOf("421 4.7.0 Your mail has been rate limited because SPF did not pass"))
	fmt.Println(x.Normalised)
	fmt.Println(x.Verdict.Category, "and", x.Verdict.Secondary)
	fmt.Println(x.Evidence[0].Rule, "decides by", x.Evidence[0].Matches[0].Text)
	// Output:
	// your mail has been rate limited because spf did not pass
	// spf_failed and rate_limited
	// spf_failed_first decides by spf did not pass
}
