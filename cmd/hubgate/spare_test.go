package main

import (
	"runtime"
	"testing"
)

// TestWithSpareProcessor: one processor gets company while it waits; several have
// some.
func TestWithSpareProcessor(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for have, want := range map[int]int{1: 2, 2: 2, 3: 3} {
		runtime.GOMAXPROCS(have)
		during := 0
		withSpareProcessor(func() { during = runtime.GOMAXPROCS(0) })
		if after := runtime.GOMAXPROCS(0); during != want || after != have {
			t.Errorf("of %d processors there are %d while one waits, and %d afterwards", have, during, after)
		}
	}
}
