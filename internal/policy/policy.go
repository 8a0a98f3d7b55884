// Package policy holds the project's house rules, as tests: which package may
// import which, what code may not do, and that documents and examples agree
// with the code. A rule that stands in the way of better code may be changed:
// here, in the open, with the reason.
package policy
