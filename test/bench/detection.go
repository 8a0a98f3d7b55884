package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// demoGoal is how long it takes, by the clock, from the moment that the mail of
// the demonstration begins to fail until its API has the alert. The goal is two
// windows, which are minutes.
func demoGoal(b built) ([]goal, error) {
	cmd := exec.Command(b.binary, "demo", "--listen", "127.0.0.1:0", "--for", "10m")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it removes its files
		_ = cmd.Wait()
	}()
	var said strings.Builder
	var address, seconds string
	pageLine, beginLine := regexp.MustCompile(`page\s+http://([^/\s]+)`), regexp.MustCompile(`In ([0-9]+) seconds the SPF record of`)
	for lines := bufio.NewScanner(out); seconds == "" && lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if m := pageLine.FindStringSubmatch(lines.Text()); m != nil {
			address = m[1]
		}
		if m := beginLine.FindStringSubmatch(lines.Text()); m != nil {
			seconds = m[1]
		}
	}
	n, err := strconv.Atoi(seconds)
	if err != nil || address == "" {
		return nil, fmt.Errorf("the demonstration does not say when its incident begins:\n%s", said.String())
	}
	incident := time.Now().Add(time.Duration(n) * time.Second)
	for {
		var answer struct {
			Alerts []struct{ Alert struct{ Category string } }
		}
		if err := json.Unmarshal([]byte(page(address, "/api/v1/alerts?open=true")), &answer); err == nil {
			for _, a := range answer.Alerts {
				if a.Alert.Category == "spf_failed" {
					return []goal{{what: "from an incident to its alert, in the demonstration, by the clock", bound: 120, most: true, unit: " s", figure: time.Since(incident).Seconds()}}, nil
				}
			}
		}
		if time.Since(incident) > 5*time.Minute {
			return nil, errors.New("the demonstration has no alert five minutes after its incident")
		}
		<-time.After(100 * time.Millisecond)
	}
}

// detectionGoals are the delays that bouncemeter bench detector tells of each make
// of mail.
func detectionGoals(b built) ([]goal, error) {
	args := strings.Fields("bench detector --only singles --no-plain --budget 1")
	out, err := exec.Command(b.binary, args...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	var all []goal
	add := func(what string, bound, minutes float64) {
		all = append(all, goal{what: what, bound: bound, most: true, unit: " minutes", figure: minutes, by: "bouncemeter " + strings.Join(args, " ")})
	}
	what, slowest := "from the beginning of an incident that costs 100 messages or more to its alert, median, in simulated mail: ", 0.0
	var columns []string // the first is the make of mail
	cells := regexp.MustCompile(`\s{2,}`)
	for line := range strings.Lines(string(out)) {
		row := cells.Split(strings.TrimSpace(line), -1)
		if !strings.HasPrefix(line, "bouncemeter") {
			columns = row
			continue
		}
		delay := func(column string) float64 {
			i := slices.Index(columns, column)
			if i < 0 || i >= len(row) {
				err = fmt.Errorf("no %q in\n%s", column, out)
				return 0
			}
			minutes, parsed := strconv.ParseFloat(strings.TrimSuffix(row[i], " min"), 64)
			err = errors.Join(err, parsed)
			return minutes
		}
		bound := 5.0
		if strings.Contains(columns[0], "clumps") {
			bound = 6
		}
		add(what+columns[0], bound, delay("delay 100"))
		slowest, what = max(slowest, delay("delay 10")), "… "
	}
	if len(all) == 0 {
		err = fmt.Errorf("no delay in\n%s", out)
	}
	add("… that costs 10 or more, in the slowest of these", 10, slowest)
	return all, err
}
