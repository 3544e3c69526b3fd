package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// TestClaims: from a file to a device that gets in because of it.
func TestClaims(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	shared := strings.Replace(factoryHub, "trust_anchors:", "policy: {admission: [{claims: once}]}\n    trust_anchors:", 1)
	writeFile(t, s.dir, "hubgate.yaml", []byte(shared))
	v := s.serve()
	s.golden("claim-list-empty.txt", s.hubgate("claim", "list", "factory").ok(t))
	mine, stranger := s.factory.device(t, "SN-0001"), s.factory.device(t, "SN-0002")
	if got := v.connect(mine); got != "device_not_allowed" {
		t.Errorf("%s without a claim", got)
	}
	rejects := filepath.Join(s.dir, "rejects.txt")
	got := s.hubgateIn("SN-0001\n\na/b\nSN-0003\nSN-0001\n", "claim", "import", "factory", "-", "--rejects", rejects)
	if got.code != exitPartly {
		t.Errorf("exit code %d", got.code)
	}
	s.golden("claim-import.txt", got.out+got.err)
	if kept := string(readFile(t, rejects)); kept != "a/b\n" {
		t.Errorf("kept %q", kept)
	}
	if got := v.connect(mine); got != "device_provisioned" {
		t.Errorf("%s with a claim", got)
	}
	if got := v.connect(stranger); got != "device_not_allowed" {
		t.Errorf("%s without a claim", got)
	}
	if out := s.hubgate("claim", "list", "factory").ok(t); !strings.Contains(out, "SN-0001  yes") || !strings.Contains(out, "SN-0003  no") {
		t.Errorf("listed\n%s", out)
	}
	s.golden("claim-remove.txt", s.hubgate("claim", "remove", "factory", "SN-0003", "SN-9").ok(t))
	s.golden("claim-list.txt", s.hubgate("claim", "list", "factory").ok(t))
	s.golden("claim-list.json", s.hubgate("claim", "list", "factory", "-o", "json").ok(t))
	s.golden("claim-clear.txt", s.hubgate("claim", "clear", "factory").ok(t))

	// Many, as objects, into a store that nobody serves.
	v.end()
	var many strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&many, "{\"name\":\"SN-%05d\"}\n", i)
	}
	file := writeFile(t, s.dir, "claims.ndjson", []byte(many.String()))
	out := s.hubgate("claim", "import", "factory", file, "--ndjson", "--offline", "--progress").ok(t)
	if !strings.Contains(out, "3000 lines imported into hub factory: 3000 added, 0 on the list already, 0 refused") {
		t.Errorf("printed %s", out)
	}
	if out := s.hubgate("claim", "list", "factory", "--offline", "--limit", "2").ok(t); !strings.Contains(out, "2 of 3000: --limit 0 lists all") {
		t.Errorf("printed %s", out)
	}
	if all := s.hubgate("claim", "list", "factory", "--offline", "--limit", "0", "-o", "json").ok(t); strings.Count(all, `"name"`) != 3000 {
		t.Errorf("%d are listed", strings.Count(all, `"name"`))
	}
	for _, tt := range []struct {
		args []string
		code int
		err  string
	}{
		{[]string{"claim", "list", "plant", "--offline"}, exitNotFound, `hub "plant" not found`},
		{[]string{"claim", "list", "factory", "--limit", "-1", "--offline"}, exitUsage, "is negative"},
		{[]string{"claim", "remove", "factory"}, exitUsage, "wanted: HUB NAME..."},
		{[]string{"claim", "import", "factory", "-", "--from-line", "0"}, exitUsage, "the first is 1"},
	} {
		if got := s.hubgateIn("SN-1\n", tt.args...); got.code != tt.code || !strings.Contains(got.err, tt.err) {
			t.Errorf("%v: %+v", tt.args, got)
		}
	}
}
