package simulate

import "math"

// What a step does.
const (
	arrive uint8 = iota
	queue
	deliver
	chatter
)

// step is something that will happen.
type step struct {
	at      int64 // microseconds since the Unix epoch
	number  uint64
	message int32
	what    uint8
}

func (s *step) before(o *step) bool {
	return s.at < o.at || s.at == o.at && s.number < o.number
}

// agenda is a heap of steps: the earliest first, at the same time the one that
// was planned first.
type agenda struct {
	steps []step
	added uint64
}

func (a *agenda) next() int64 {
	if len(a.steps) == 0 {
		return math.MaxInt64
	}
	return a.steps[0].at
}

func (a *agenda) add(at int64, what uint8, message int32) {
	a.added++
	a.steps = append(a.steps, step{at: at, number: a.added, message: message, what: what})
	for i := len(a.steps) - 1; i > 0; {
		parent := (i - 1) / 2
		if !a.steps[i].before(&a.steps[parent]) {
			break
		}
		a.steps[i], a.steps[parent] = a.steps[parent], a.steps[i]
		i = parent
	}
}

func (a *agenda) take() step {
	first := a.steps[0]
	last := len(a.steps) - 1
	a.steps[0] = a.steps[last]
	a.steps = a.steps[:last]
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			break
		}
		if child+1 < last && a.steps[child+1].before(&a.steps[child]) {
			child++
		}
		if !a.steps[child].before(&a.steps[i]) {
			break
		}
		a.steps[i], a.steps[child] = a.steps[child], a.steps[i]
		i = child
	}
	return first
}
