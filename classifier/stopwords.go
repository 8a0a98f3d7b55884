package classifier

import "slices"

// stopWords carry no meaning of their own: articles, possessives, forms of "to
// be" and "to have". They are skipped in texts and in phrases alike, so that "no
// such user", "the user is unknown" and "unknown user" need not be written in
// every form. A word that some rule needs must not be here.
var stopWords = []string{
	// English
	"a", "an", "the", "is", "are", "was", "were", "be", "been", "being", "has", "have", "had", "having",
	"this", "that", "these", "those", "our", "their", "his", "her", "its", "it", "my", "s", "ve", "re", "ll",
	"sorry", "currently", "also", "so", "https", "http", "www", "br",
	// German
	"der", "die", "das", "den", "dem", "des", "ein", "eine", "einen", "einem", "einer", "ist", "sind", "wurde", "wurden", "wird", "werden", "ihre", "ihr", "ihrer", "ihren",
	// French
	"le", "la", "les", "l", "un", "une", "de", "du", "d", "est", "été", "cette", "cet", "ce", "votre", "vos", "qu",
	// Spanish, Portuguese, Italian
	"el", "los", "las", "lo", "una", "del", "al", "ha", "sido", "esta", "está", "este", "su", "se", "os", "as", "um", "uma", "foi", "do", "da", "di", "il", "gli", "della", "dell", "stato", "stata", "e", "è", "é", "en",
	// Dutch, Nordic
	"het", "een", "er", "en", "ett", "et", "det", "är", "som",
}

var stopWordSet = func() map[string]bool {
	m := make(map[string]bool, len(stopWords))
	for i, w := range stopWords {
		w = string(foldString(w))
		stopWords[i] = w
		m[w] = true
	}
	slices.Sort(stopWords)
	stopWords = slices.Compact(stopWords)
	return m
}()

func isStopWord(w string) bool { return stopWordSet[w] }

func foldString(s string) []byte {
	var b []byte
	for _, r := range s {
		b = foldRune(b, r)
	}
	return b
}
