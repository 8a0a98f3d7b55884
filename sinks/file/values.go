package file

import "context"

// Values appends values that are JSON objects, such as counts, a line each. It is
// used by one goroutine.
type Values struct{ w writer }

// NewValues returns a writer to s.
func NewValues(s *Sink) *Values { return &Values{writer{sink: s}} }

// Add takes a value. The key is for stores that have keys.
func (v *Values) Add(_, value []byte) {
	v.w.lines = append(append(v.w.lines, value...), '\n')
	v.w.records++
}

// Flush returns nil once everything is as durable as configured. After an error
// everything is still held.
func (v *Values) Flush(ctx context.Context) error { return v.w.Flush(ctx) }
