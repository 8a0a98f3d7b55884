// Package window counts events per series in event time. It is pure: no
// goroutine, no clock, no I/O, so that the same lines always give the same
// counts, in whatever pieces they arrive.
package window
