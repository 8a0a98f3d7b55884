package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
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

// detectionGoals are the delays that bouncemeter bench detector tells, of the make
// of mail where they are longest.
func detectionGoals(b built) ([]goal, error) {
	args := strings.Fields("bench detector --only singles --no-plain --budget 1")
	out, err := exec.Command(b.binary, args...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	longest := map[string]float64{}
	var names []string
	cells := regexp.MustCompile(`\s{2,}`)
	for line := range strings.Lines(string(out)) {
		row := cells.Split(strings.TrimSpace(line), -1)
		if !strings.HasPrefix(line, "bouncemeter") {
			names = row
			continue
		}
		for i, cell := range row[:min(len(row), len(names))] {
			minutes, ok := strings.CutSuffix(cell, " min")
			if !ok {
				continue
			}
			f, err := strconv.ParseFloat(minutes, 64)
			if err != nil {
				return nil, fmt.Errorf("%w in\n%s", err, out)
			}
			longest[names[i]] = max(longest[names[i]], f)
		}
	}
	var all []goal
	for _, g := range []struct {
		column, what string
		bound        float64
	}{
		{"delay 100", "from its beginning to its alert, an incident that costs 100 messages or more, median, in the slowest of four makes of simulated mail", 6},
		{"delay 10", "… that costs 10 or more", 10},
	} {
		f, ok := longest[g.column]
		if !ok {
			return nil, fmt.Errorf("no column %q in\n%s", g.column, out)
		}
		all = append(all, goal{what: g.what, bound: g.bound, most: true, unit: " minutes", figure: f, by: "bouncemeter " + strings.Join(args, " ")})
	}
	return all, nil
}
