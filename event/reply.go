package event

import "strconv"

// Stage is the SMTP command that a reply answered.
type Stage uint8

const (
	StageUnknown Stage = iota
	StageConnect       // the banner, or no connection at all
	StageHelo          // EHLO, HELO, LHLO
	StageTLS           // STARTTLS and the handshake
	StageAuth
	StageMail // MAIL FROM
	StageRcpt // RCPT TO
	StageData // the DATA command
	StageEnd  // the end of the message's data, where content is judged
	StageQuit
)

var stageNames = [...]string{"", "connect", "helo", "tls", "auth", "mail", "rcpt", "data", "end_of_data", "quit"}

// String returns the stage's stable name, or "" if it is unknown.
func (s Stage) String() string { return stageNames[s] }

// StageByName returns the stage with this stable name.
func StageByName(name string) (Stage, bool) {
	for i, n := range stageNames {
		if n == name {
			return Stage(i), true
		}
	}
	return 0, false
}

// Origin says who spoke.
type Origin uint8

const (
	OriginUnknown Origin = iota
	OriginRemote         // the other server's words
	OriginLocal          // our own MTA's: no connection, a local limit, DNS
)

var originNames = [...]string{"", "remote", "local"}

// String returns the origin's stable name, or "" if it is unknown.
func (o Origin) String() string { return originNames[o] }

// OriginByName returns the origin with this stable name.
func OriginByName(name string) (Origin, bool) {
	for i, n := range originNames {
		if n == name {
			return Origin(i), true
		}
	}
	return 0, false
}

// Enhanced is an enhanced mail system status code (RFC 3463), such as 5.1.1.
// The zero value means that there is none.
type Enhanced struct {
	Class           uint8 // 2, 4 or 5
	Subject, Detail uint16
}

// IsZero reports whether there is no code.
func (e Enhanced) IsZero() bool { return e.Class == 0 }

// String returns the code in the form class.subject.detail, or "".
func (e Enhanced) String() string {
	if e.IsZero() {
		return ""
	}
	return string(e.Append(nil))
}

// Append appends the code in the form class.subject.detail.
func (e Enhanced) Append(b []byte) []byte {
	b = strconv.AppendUint(b, uint64(e.Class), 10)
	b = append(b, '.')
	b = strconv.AppendUint(b, uint64(e.Subject), 10)
	b = append(b, '.')
	return strconv.AppendUint(b, uint64(e.Detail), 10)
}

// ParseEnhanced reads an enhanced status code at the start of b and returns it
// with its length, or length 0 if there is none. RFC 3463 section 2 allows
// class 2, 4 or 5 and one to three digits in the other places.
func ParseEnhanced(b []byte) (e Enhanced, n int) {
	if len(b) < 5 || b[0] != '2' && b[0] != '4' && b[0] != '5' || b[1] != '.' {
		return Enhanced{}, 0
	}
	if len(b) > 5 && b[3] == '.' && isDigit(b[2]) && isDigit(b[4]) && (b[5] == ' ' || b[5] == ',') {
		return Enhanced{b[0] - '0', uint16(b[2] - '0'), uint16(b[4] - '0')}, 5 // as most are
	}
	subject, i := digits(b, 2)
	if i == 2 || i >= len(b) || b[i] != '.' {
		return Enhanced{}, 0
	}
	start := i + 1
	detail, i := digits(b, start)
	if i == start || i < len(b) && (b[i] == '.' && i+1 < len(b) && isDigit(b[i+1]) || isDigit(b[i]) || isLetter(b[i])) {
		return Enhanced{}, 0 // an IP address, a version, a name
	}
	return Enhanced{Class: b[0] - '0', Subject: subject, Detail: detail}, i
}

// digits reads up to three digits of b from i and returns their value and end.
func digits(b []byte, i int) (v uint16, end int) {
	for end = i; end < len(b) && end < i+3 && isDigit(b[end]); end++ {
		v = v*10 + uint16(b[end]-'0')
	}
	return v, end
}

func isDigit(c byte) bool  { return c-'0' < 10 }
func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// Reply is what a server said, or what our MTA says where no server spoke.
type Reply struct {
	Code     uint16 // basic reply code (RFC 5321 section 4.2), 0 if none
	Enhanced Enhanced
	// Text is the reply as the record has it, wrapper removed by the dialect
	// as far as it knows it ("host H said:", "(in reply to …)"). Code and
	// enhanced code stay at its front: the classifier reads the innermost.
	Text   []byte
	Stage  Stage
	Origin Origin
	// Status is the MTA's own enhanced status for the attempt (Postfix dsn=).
	// It is weaker evidence than the reply's own code.
	Status Enhanced
}
