package access_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/hubgate/hubgate/admin/access"
)

// TestSlots: a principal has a quarter, whatever its secret is now, and what all
// have is bounded.
func TestSlots(t *testing.T) {
	t.Parallel()
	s := access.NewSlots("too_many", "are there", "go away", 8)
	take := func(p access.Principal) (func(), *access.Busy) {
		free, err := s.Take(p)
		var busy *access.Busy
		if err != nil && !errors.As(err, &busy) {
			t.Fatal(err)
		}
		return free, busy
	}
	var frees []func()
	for _, name := range []string{"a", "b", "c", "d"} {
		for range 2 {
			free, busy := take(access.Principal{Name: name})
			if busy != nil {
				t.Fatalf("%s: %v", name, busy)
			}
			frees = append(frees, free)
		}
		if name == "d" {
			break // all are taken
		}
		if _, busy := take(access.Principal{Name: name}); busy == nil || !busy.Own || busy.Code != "too_many" ||
			busy.Error() != fmt.Sprintf("2 are there already for %q: go away", name) {
			t.Errorf("%s: %v", name, busy)
		}
	}
	if _, busy := take(access.Principal{Name: "e"}); busy == nil || busy.Own || busy.Error() != "8 are there already: go away" {
		t.Errorf("one too many: %v", busy)
	}
	frees[0]()
	frees[0]() // gives nothing back
	if _, busy := take(access.Principal{Name: "a", TokenID: "1"}); busy != nil {
		t.Errorf("after one was given back: %v", busy)
	}
	if _, busy := take(access.Principal{Name: "a"}); busy == nil {
		t.Error("a slot was given back twice")
	}
	for _, free := range frees[1:] {
		free()
	}
	for range 7 {
		if _, busy := take(access.Local()); busy != nil {
			t.Fatalf("over the local socket: %v", busy)
		}
	}
	if _, busy := take(access.Local()); busy == nil || busy.Own {
		t.Errorf("over the local socket, one too many: %v", busy)
	}
}
