package counts

import (
	"strings"

	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

// DelayColumns are the columns of the delay tables that hold
// window.DelayCount.Buckets, in order, and the sum.
const DelayColumns = "s1, s2_5, s5, s10, s30, m1, m5, m15, h1, h4, h12, d1, d2, d5, over, micros"

// A change of the buckets needs a migration.
var _ = [1]struct{}{}[len(window.DelayBounds)-14]

// EachDelayColumn returns what f makes of each of DelayColumns, as a list.
func EachDelayColumn(f func(column string) string) string {
	columns := strings.Split(DelayColumns, ", ")
	for i, c := range columns {
		columns[i] = f(c)
	}
	return strings.Join(columns, ", ")
}
