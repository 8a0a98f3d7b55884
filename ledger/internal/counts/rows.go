package counts

import (
	"cmp"
	"slices"
)

// Row is a count on its way to the table of a grain.
type Row struct {
	Start, Series          int64
	Attempts, Firsts, Late int64
}

func (r *Row) add(o *Row) {
	r.Attempts += o.Attempts
	r.Firsts += o.Firsts
	r.Late += o.Late
}

// Sort puts rows in the order of the tables, so that neighbours meet the same page
// and all transactions touch them in one order, and adds up those with the same
// key.
func Sort(rows []Row) []Row {
	slices.SortFunc(rows, func(a, b Row) int {
		if a.Start != b.Start {
			return cmp.Compare(a.Start, b.Start)
		}
		return cmp.Compare(a.Series, b.Series)
	})
	kept := rows[:0]
	for _, r := range rows {
		if n := len(kept); n > 0 && kept[n-1].Start == r.Start && kept[n-1].Series == r.Series {
			kept[n-1].add(&r)
			continue
		}
		kept = append(kept, r)
	}
	return kept
}

// Take returns those of rows, which are sorted, that a grain is to have, one for
// each of its keys. They are valid until rows or dst, whose memory may be used,
// change.
func (m *Marks) Take(g Grain, rows, dst []Row) []Row {
	before := func(t int64) int { // times ascend, so a grain takes one run
		n, _ := slices.BinarySearchFunc(rows, t, func(r Row, t int64) int { return cmp.Compare(r.Start, t) })
		return n
	}
	from, to := m.Bounds(g)
	first := before(from)
	rows = rows[first:max(first, before(to))]
	if g == Minutes {
		return rows
	}
	dst = dst[:0]
	type key struct{ start, series int64 }
	at := make(map[key]int) // in dst; to sort so many rows again takes several times as long
	for _, r := range rows {
		r.Start = g.Floor(r.Start)
		k := key{r.Start, r.Series}
		if i, ok := at[k]; ok {
			dst[i].add(&r)
			continue
		}
		at[k] = len(dst)
		dst = append(dst, r)
	}
	return Sort(dst)
}
