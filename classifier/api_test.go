package classifier

import (
	"testing"
)

func TestRuleExamples(t *testing.T) {
	c, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range c.Test() {
		t.Error(f)
	}
	for _, f := range c.Lint() {
		t.Error(f)
	}
}
