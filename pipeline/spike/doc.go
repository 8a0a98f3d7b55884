// Package spike finds out when mail begins to fail more than usual, and says so
// once, with the numbers.
//
// A Detector is fed the counts of closed minutes in order of event time. It
// reads no clock, file or network, starts no goroutine and uses no randomness,
// so the same minutes always give the same alerts, whenever and in however many
// pieces they are fed: State and Restore carry all that it knows.
//
// What it does for a rule that judges ratios:
//
//   - One series per combination of names in Rule.By. Its usual ratio is learned
//     over days, starting from what others of its kind do (baseline.go).
//   - Each minute is evidence for or against a rise to 4, 10 or 30 times an upper
//     bound of the usual ratio. Evidence is added up until it exceeds what chance
//     may produce within the rule's budget of false alarms: a CUSUM of
//     likelihood ratios, Lorden 1971 (ratio.go).
//   - Where many series of one provider, domain, host or source rise a little at
//     the same time, one alert for what they share is raised and those of its
//     members are inhibited (breadth.go).
//   - The excess is traced to hosts, streams, sources and so on (explain.go).
//   - An alert ends once the evidence for the usual ratio is 300:1 (ratio.go). What
//     was counted during an alert is not learned.
//
// Other kinds of rules: volume.go (silence, drop, surge), threshold.go (fixed
// thresholds, burn rates), trend.go (slow change against the own month),
// template.go (wordings never seen before). Digest compares two periods.
package spike
