package provision_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hubgate/hubgate/provision"
)

func TestAReasonNobodyKnowsIsAFault(t *testing.T) {
	t.Parallel()
	if got := provision.Reason("made up").Outcome(); got != provision.Fault {
		t.Errorf("outcome %s, want error", got)
	}
}

// The README's table is written from the one table of reasons
// (UPDATE_GOLDEN=1 writes it).
func TestREADMEListsEveryReason(t *testing.T) {
	t.Parallel()
	reasons := provision.Reasons()
	slices.Sort(reasons)
	slices.SortStableFunc(reasons, func(a, b provision.Reason) int { return int(b.Outcome()) - int(a.Outcome()) })
	var table strings.Builder
	table.WriteString("| code | decision | what to do |\n|---|---|---|\n")
	for _, r := range reasons {
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", r, r.Outcome(), r.Remedy())
	}
	const path, begin, end = "../README.md", "<!-- reasons: written from provision/reason.go -->\n", "<!-- /reasons -->"
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s lacks the markers of the table", path)
	}
	if got == table.String() {
		return
	}
	if os.Getenv("UPDATE_GOLDEN") == "" {
		t.Fatalf("%s: the table of reasons is not that of provision/reason.go; write it with UPDATE_GOLDEN=1", path)
	}
	if err := os.WriteFile(path, []byte(before+begin+table.String()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
