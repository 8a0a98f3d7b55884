// Package classifier says why a delivery failed: it reads the reply of a
// server and names a category of package event, by rules that are data
// (rules/*.yaml, embedded) and that users extend or override with files of
// their own.
//
// A reply passes three steps.
//
// Normalise (normalise.go): wrappers of our own MTA are cut off, the lines of a
// multi-line reply are joined, the basic and the enhanced code are taken out,
// accents are folded, and everything that differs from message to message is
// masked: addresses (ADDR), IP addresses (IP), host names (HOST), numbers and
// ids (N). What rules name themselves, such as "spamhaus.org" or "S3150", is
// kept. Rules only ever see this masked text.
//
// Match (words.go, phrase.go, automaton.go): each word of the text is looked up
// once in one trie of all words that rules use; what is found drives one
// automaton of all phrases. The work grows with the text, not with the number of
// rules. The usual answer to this problem is one Aho-Corasick automaton over the
// letters of whole phrases; two levels need no failure links, stay small enough
// for the second-level cache, and let phrases have classes of words, inflections
// and gaps, which is what makes a rule hold for wordings nobody has seen yet.
//
// Judge (judge.go): of the rules whose conditions hold, the one with the best
// kind of evidence wins: words of that provider, words of anybody, an enhanced
// code with that provider's meaning, its registered meaning, the basic code,
// the MTA's own status. Among equals the closer cause wins, then the longer
// match. The order of files never matters.
//
// Because the verdict is a function of the masked text, the codes, the stage,
// the provider and the outcome, and of nothing else, a cache with that key can
// never change a verdict; see Session.
package classifier

//go:generate go run ./internal/categories ../docs/categories.md
