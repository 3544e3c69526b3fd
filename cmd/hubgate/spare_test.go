package main

import (
	"runtime"
	"testing"
)

func TestWithSpareProcessor(t *testing.T) {
	before, during := runtime.GOMAXPROCS(0), 0
	withSpareProcessor(func() { during = runtime.GOMAXPROCS(0) })
	if after := runtime.GOMAXPROCS(0); during != before+1 || after != before {
		t.Errorf("%d processors, %d while one waits, %d afterwards", before, during, after)
	}
}
