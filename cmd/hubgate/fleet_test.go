package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/hubgate/hubgate/admin"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision/redisstore/redistest"
)

// TestFleetByHand does all that a fleet's owner does, from nothing to a device
// that is banned and a hub that is gone, on each store.
func TestFleetByHand(t *testing.T) {
	t.Parallel()
	for name, store := range map[string]func(t *testing.T) string{
		"bolt":  func(*testing.T) string { return "" },
		"redis": func(t *testing.T) string { return "store: " + redistest.Start(t).URL() + "\n" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.t = t
			bare, _, _ := strings.Cut(factoryHub, "hubs:")
			writeFile(t, s.dir, "hubgate.yaml", []byte(bare+store(t)))
			fleetByHand(t, s, s.serve())
		})
	}
}

func fleetByHand(t *testing.T, s *site, v *serving) {
	does := func(want string, args ...string) {
		t.Helper()
		if out := s.hubgate(args...).ok(t); !strings.Contains(out, want) {
			t.Errorf("%v printed\n%s", args, out)
		}
	}
	refuses := func(code int, want string, args ...string) {
		t.Helper()
		if got := s.hubgate(args...); got.code != code || !strings.Contains(got.err, want) {
			t.Errorf("%v: %+v", args, got)
		}
	}
	root := s.factory.root
	ca, key := writeCA(t, s.dir, "ca", root)
	challenge := filepath.Join(s.dir, "challenge.pem")
	sum := fingerprint(root)

	does("There are no hubs.", "hub", "list")
	does("Hub plant is created.", "hub", "create", "plant")
	refuses(exitConflict, "", "hub", "create", "plant")
	refuses(exitError, "", "hub", "create", "Not A Label")
	does("trusts no CA", "anchor", "list", "plant")
	refuses(exitConflict, "hint: install a trust anchor first", "hub", "auto-provisioning", "on", "plant")
	does("is valid for", "pki", "challenge", "--ca", ca, "--key", key, "--hub", "plant", "--out", challenge)
	refuses(exitUsage, "--challenge is missing", "anchor", "add", "plant", ca)
	refuses(exitUsage, "--waive-proof and --reason go together", "anchor", "add", "plant", ca, "--waive-proof")
	refuses(exitError, "", "anchor", "add", "plant", ca, "--challenge", ca)
	var added admin.Anchor
	if err := json.Unmarshal([]byte(s.hubgate("anchor", "add", "plant", ca, "--challenge", challenge, "-o", "json").ok(t)), &added); err != nil || added.Fingerprint != sum || added.Waived {
		t.Errorf("%+v (%v)", added, err)
	}
	does(sum, "anchor", "list", "plant")
	does("knows no intermediates", "intermediate", "list", "plant")
	line := writeFile(t, s.dir, "line.pem", pki.EncodeCertificates(s.factory.line.Certificate))
	does("knows them", "intermediate", "add", "plant", line)
	does(`"source": "uploaded"`, "intermediate", "add", "plant", line, "-o", "json") // once more is no change
	does("uploaded", "intermediate", "list", "plant")
	does(fingerprint(s.factory.line), "intermediate", "list", "plant", "-o", "yaml")
	does("creates itself", "hub", "auto-provisioning", "on", "plant")

	chain := s.factory.device(t, "SN-0001")
	if got := v.connect(chain); got != "device_provisioned" {
		t.Error(got)
	}
	does("is created", "device", "create", "plant", "SN-0002", "--description", "spare", "--enabled=false", "--reason", "not yet")
	refuses(exitConflict, "", "device", "create", "plant", "SN-0002")
	refuses(exitUsage, "nothing is to be changed", "device", "update", "plant", "SN-0001")
	does("is changed", "device", "update", "plant", "SN-0001", "--allow-multiple-connections")
	var d admin.Device
	if err := json.Unmarshal([]byte(s.hubgate("device", "show", "plant", "SN-0001", "-o", "json").ok(t)), &d); err != nil || !d.AllowMultipleConnections {
		t.Errorf("%+v (%v)", d, err)
	}
	filtersByHand(t, s)
	secretByHand(t, s)
	certificateByHand(t, s)
	does("SN-0001", "device", "list", "plant", "--enabled", "true", "--name-prefix", "SN-")
	does("has no such device", "device", "list", "plant", "--name-prefix", "TN-")
	does("has no such device", "device", "list", "plant", "--connected", "true")
	refuses(exitError, "enabled", "device", "list", "plant", "--enabled", "maybe")
	refuses(exitError, "anchor", "device", "list", "plant", "--anchor", "bogus")
	for _, sum := range []string{sum, strings.ToUpper(sum), d.Anchor} { // as anchor list shows it, and as device show does
		if out := s.hubgate("device", "list", "plant", "--anchor", sum).ok(t); !strings.Contains(out, "SN-0001") || strings.Contains(out, "SN-0002") {
			t.Errorf("--anchor %s printed\n%s", sum, out)
		}
	}
	second := s.factory.device(t, "SN-0002")
	if got := v.connect(second); got != "device_disabled" {
		t.Error(got)
	}
	does("is enabled", "device", "enable", "plant", "SN-0002")
	if got := v.connect(second); got != "device_known" {
		t.Error(got)
	}
	does("is disabled", "device", "disable", "plant", "SN-0002", "--reason", "stolen in May")
	does("no, stolen in May", "device", "show", "plant", "SN-0002")
	if out := s.hubgate("device", "list", "plant", "--enabled", "false").ok(t); !strings.Contains(out, "SN-0002") || strings.Contains(out, "SN-0001") {
		t.Errorf("--enabled false printed\n%s", out)
	}
	does("is disabled", "hub", "disable", "plant")
	if got := v.connect(chain); got != "hub_disabled" {
		t.Error(got)
	}
	does("is enabled", "hub", "enable", "plant", "-o", "table")
	does("Hub works is changed", "hub", "update", "plant", "--name", "works")
	refuses(exitUsage, "nothing is to be changed", "hub", "update", "works")
	does("unseen devices are refused", "hub", "auto-provisioning", "off", "works")

	refuses(exitConflict, "--end-devices", "anchor", "remove", "works", sum)
	does("is removed", "anchor", "remove", "works", sum, "--end-devices")
	does("is removed", "intermediate", "remove", "works", fingerprint(s.factory.line))
	refuses(exitConflict, "", "hub", "delete", "works")
	does("is deleted", "hub", "delete", "works", "--with-devices")
	refuses(exitNotFound, "", "hub", "show", "works")
}

// filtersByHand changes one direction of a device's message filters after the
// other.
func filtersByHand(t *testing.T, s *site) {
	t.Helper()
	update := []string{"device", "update", "plant", "SN-0001"}
	for _, tt := range []struct {
		flags []string
		want  *admin.Filters
		shown string
	}{
		{
			[]string{"--publish-accept", "up/#", "--publish-accept", "a,b"},
			&admin.Filters{Publish: admin.Filter{Policy: "accept", Topics: []string{"up/#", "a,b"}}, Subscribe: admin.Filter{Policy: "reject"}},
			"publishes to                up/#, a,b\nsubscribes to               all topics\n",
		},
		{
			[]string{"--subscribe-reject", "fleet/+"},
			&admin.Filters{
				Publish:   admin.Filter{Policy: "accept", Topics: []string{"up/#", "a,b"}},
				Subscribe: admin.Filter{Policy: "reject", Topics: []string{"fleet/+"}},
			},
			"subscribes to               all topics but fleet/+\n",
		},
		{
			[]string{"--publish-accept", ""},
			&admin.Filters{Publish: admin.Filter{Policy: "accept"}, Subscribe: admin.Filter{Policy: "reject", Topics: []string{"fleet/+"}}},
			"publishes to                no topics\n",
		},
		{[]string{"--no-filters"}, nil, "publishes to                all topics\nsubscribes to               all topics\n"},
	} {
		s.hubgate(append(update, tt.flags...)...).ok(t)
		var d admin.Device
		if err := json.Unmarshal([]byte(s.hubgate("device", "show", "plant", "SN-0001", "-o", "json").ok(t)), &d); err != nil {
			t.Fatal(err)
		}
		if f := d.MessageFilters; f != nil { // no topics are none, however they are written
			for _, f := range []*admin.Filter{&f.Publish, &f.Subscribe} {
				if len(f.Topics) == 0 {
					f.Topics = nil
				}
			}
		}
		if !reflect.DeepEqual(d.MessageFilters, tt.want) {
			t.Errorf("%v made %+v", tt.flags, d.MessageFilters)
		}
		if out := s.hubgate("device", "show", "plant", "SN-0001").ok(t); !strings.Contains(out, tt.shown) {
			t.Errorf("%v shows\n%s", tt.flags, out)
		}
	}
	for _, tt := range []struct {
		code int
		err  string
		args []string
	}{
		{exitUsage, "--publish-accept, --publish-reject: leave one of the two out", append(update, "--publish-accept", "a", "--publish-reject", "b")},
		{exitUsage, "--no-filters goes without filters", append(update, "--no-filters", "--subscribe-accept", "b")},
		{exitError, `message_filters.publish: topic "a/#/b"`, append(update, "--publish-accept", "a/#/b")},
		{exitError, `message_filters.subscribe: topic "+a"`, []string{"device", "create", "plant", "SN-0009", "--subscribe-reject", "+a"}},
	} {
		if got := s.hubgate(tt.args...); got.code != tt.code || !strings.Contains(got.err, tt.err) {
			t.Errorf("%v: %+v", tt.args, got)
		}
	}
}

// fingerprint is how the API names a certificate.
func fingerprint(a *pki.Authority) string {
	sum := sha256.Sum256(a.Certificate.Raw)
	return hex.EncodeToString(sum[:])
}

// certificateByHand gives a device a certificate of its own, and takes it.
func certificateByHand(t *testing.T, s *site) {
	t.Helper()
	own := writeFile(t, t.TempDir(), "own.pem", pki.EncodeCertificates(newFactory(t, "Anybody").device(t, "SN-0001")[0]))
	set := []string{"device", "certificate", "set", "plant", "SN-0001", own}
	if got := s.hubgate(set...); got.code != exitConflict || !strings.Contains(got.err, "`hubgate hub update plant --custom-certificates`") {
		t.Errorf("%+v", got)
	}
	s.hubgate("hub", "update", "plant", "--custom-certificates").ok(t)
	if out := s.hubgate(set...).ok(t); !strings.Contains(out, "gets in with this certificate alone, until ") {
		t.Errorf("printed\n%s", out)
	}
	for what, want := range map[string]string{"device show plant SN-0001": "custom certificate ", "hub show plant": "custom certificates "} {
		if out := s.hubgate(strings.Fields(what)...).ok(t); !strings.Contains(out, want) {
			t.Errorf("%s printed\n%s", what, out)
		}
	}
	for _, key := range [][]string{nil, {"--key", strings.Repeat("ab", 32)}} {
		got := s.hubgate(append([]string{"device", "approve", "plant", "SN-0001"}, key...)...)
		if got.code == exitOK || !strings.Contains(got.err, "`hubgate device certificate remove") {
			t.Errorf("%+v", got)
		}
	}
	for range 2 {
		s.hubgate("device", "certificate", "remove", "plant", "SN-0001").ok(t)
	}
	s.hubgate("hub", "update", "plant", "--custom-certificates=false").ok(t)
}

// secretByHand gives a device a secret, and takes it.
func secretByHand(t *testing.T, s *site) {
	t.Helper()
	show := func(want string) {
		t.Helper()
		if out := s.hubgate("device", "show", "plant", "SN-0001").ok(t); !strings.Contains(out, want) {
			t.Errorf("printed\n%s\nwant %s", out, want)
		}
	}
	made := s.hubgate("device", "secret", "create", "plant", "SN-0001")
	if made.code != 0 || len(strings.TrimSpace(made.out)) != 43 || strings.Count(made.out, "\n") != 1 ||
		!strings.Contains(made.err, "user name plant/SN-0001.") || !strings.Contains(made.err, "It opens nothing yet: `hubgate device update plant SN-0001 --allow-insecure`") {
		t.Errorf("%+v", made)
	}
	if out := s.hubgate("device", "update", "plant", "SN-0001", "--allow-insecure").ok(t); strings.Contains(out, "secret") {
		t.Errorf("printed\n%s", out)
	}
	show("yes, by its secret")
	var again admin.DeviceSecret
	text := s.hubgate("device", "secret", "create", "plant", "SN-0001", "-o", "json").ok(t)
	if err := json.Unmarshal([]byte(text), &again); err != nil || !again.AllowInsecure || again.UserName != "plant/SN-0001" || again.Secret == strings.TrimSpace(made.out) {
		t.Errorf("%+v (%v)", again, err)
	}
	if out := s.hubgate("device", "export", "plant").ok(t); strings.Contains(out, "secret") || strings.Contains(out, again.Secret) {
		t.Errorf("the export has the secret:\n%s", out)
	}
	for range 2 { // once more is no change
		s.hubgate("device", "secret", "remove", "plant", "SN-0001").ok(t)
	}
	show("yes, but it has no secret")
	if out := s.hubgate("device", "update", "plant", "SN-0001", "--description", "x").ok(t); !strings.Contains(out, "before it has a secret: `hubgate device secret create plant SN-0001`") {
		t.Errorf("printed\n%s", out)
	}
	s.hubgate("device", "update", "plant", "SN-0001", "--allow-insecure=false", "--description", "").ok(t)
	show("allow insecure")
}
