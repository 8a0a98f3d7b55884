package event

// Persistence says whether the same message may get through later.
type Persistence uint8

const (
	PersistenceUnknown Persistence = iota
	Transient
	Permanent
)

var persistenceNames = [...]string{"", "transient", "permanent"}

// String returns the persistence's stable name, or "" if it is unknown.
func (p Persistence) String() string { return persistenceNames[p] }

// PersistenceByName returns the persistence with this stable name.
func PersistenceByName(name string) (Persistence, bool) {
	for p := Transient; p <= Permanent; p++ {
		if persistenceNames[p] == name {
			return p, true
		}
	}
	return PersistenceUnknown, false
}

// Verdict says why an attempt failed.
type Verdict struct {
	Category Category
	// Secondary is a further cause that the text names, or for Expired the
	// last cause of deferral; Unset if there is none.
	Secondary   Category
	Persistence Persistence
	// Confidence is between 0 and 1: how strong the kind of evidence is, not a
	// probability.
	Confidence float32
	// Rule is the id of the rule that decided.
	Rule string
	// Blocklist names the list that the text blames, if it is a known one.
	Blocklist string
	// Template identifies the reply's wording with its variable parts masked;
	// equal templates of one provider, code and stage have equal verdicts.
	Template uint64
}
