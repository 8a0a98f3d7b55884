//go:build !failpoint

package failpoint

// Hit does nothing.
func (Point) Hit() {}
