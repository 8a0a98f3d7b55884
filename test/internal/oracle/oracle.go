// Package oracle counts a Postfix log in the simplest way there is, to compare
// with what the program counts. It knows nothing of the program.
package oracle

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
)

// Counts is what is in a log.
type Counts struct {
	Lines int64
	// Outcomes are attempts by their word in reports; of expired, messages.
	Outcomes map[string]int64
	// Senders are attempts by the domain of the envelope's sender. Those of the
	// null sender are under "".
	Senders map[string]int64
}

// statuses are Postfix's words and those of reports.
var statuses = map[string]string{"sent": "delivered", "deferred": "deferred", "bounced": "bounced"}

// Count counts a log. It takes the sender of a queue id from the last qmgr line
// of the same host and instance.
func Count(log io.Reader) (Counts, error) {
	c := Counts{Outcomes: map[string]int64{"delivered": 0, "deferred": 0, "bounced": 0, "expired": 0}, Senders: make(map[string]int64)}
	senders := make(map[string]string)
	r := bufio.NewReaderSize(log, 1<<20)
	for {
		line, err := r.ReadString('\n')
		if line != "" {
			c.Lines++
			c.line(line, senders)
		}
		if errors.Is(err, io.EOF) {
			return c, nil
		}
		if err != nil {
			return c, err
		}
	}
}

func (c *Counts) line(line string, senders map[string]string) {
	words := strings.SplitN(line, " ", 7) // Jan 12 00:00:00 mx1 postfix/smtp[1]: 4F2: rest
	if len(words) == 7 && words[1] == "" {
		words = strings.SplitN(strings.Replace(line, "  ", " ", 1), " ", 7) // Jan  2
	}
	if len(words) < 7 {
		return
	}
	instance, _, _ := strings.Cut(words[4], "/")
	message, rest := words[3]+" "+instance+" "+words[5], words[6]
	if address, ok := strings.CutPrefix(rest, "from=<"); ok && strings.Contains(words[4], "/qmgr[") {
		address, after, _ := strings.Cut(address, ">")
		if strings.HasPrefix(after, ", status=expired, returned to sender") {
			c.Outcomes["expired"]++
			return
		}
		_, senders[message], _ = strings.Cut(address, "@")
		return
	}
	if !strings.HasPrefix(rest, "to=<") {
		return
	}
	_, status, _ := strings.Cut(rest, ", status=")
	status, _, _ = strings.Cut(status, " ")
	if outcome := statuses[status]; outcome != "" {
		c.Outcomes[outcome]++
		c.Senders[strings.ToLower(senders[message])]++
	}
}

// CountFiles counts files as one log.
func CountFiles(paths ...string) (Counts, error) {
	var files []io.Reader
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return Counts{}, err
		}
		defer func() { _ = f.Close() }()
		files = append(files, f)
	}
	return Count(io.MultiReader(files...))
}

// Attempts is the sum of the outcomes but expired.
func (c *Counts) Attempts() (n int64) {
	for outcome, k := range c.Outcomes {
		if outcome != "expired" {
			n += k
		}
	}
	return n
}

// Report is the part of bouncemeter report -o json that is compared.
type Report struct {
	Lines         int64            `json:"lines"`
	Malformed     int64            `json:"malformed"`
	Truncated     int64            `json:"truncated"`
	Lost          int64            `json:"lost_bytes"`
	Attempts      int64            `json:"attempts"`
	Outcomes      map[string]int64 `json:"outcomes"`
	SenderDomains []struct {
		Name     string `json:"name"`
		Attempts int64  `json:"attempts"`
	} `json:"sender_domains"`
}

// Differs says how a report differs from c, or returns nil.
func (c *Counts) Differs(r *Report) error {
	if r.Lines != c.Lines || !maps.Equal(r.Outcomes, c.Outcomes) {
		return fmt.Errorf("counted %d lines with %v, there are %d with %v", r.Lines, r.Outcomes, c.Lines, c.Outcomes)
	}
	for _, s := range r.SenderDomains {
		if n, ok := c.Senders[s.Name]; ok && s.Name != "" && n != s.Attempts {
			return fmt.Errorf("counted %d attempts of sender domain %s, there are %d", s.Attempts, s.Name, n)
		}
	}
	return nil
}
