package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"path/filepath"
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
	does("Hub plant trusts CN=Factory root", "anchor", "add", "plant", ca, "--challenge", challenge)
	does(sum, "anchor", "list", "plant")
	does("knows no intermediates", "intermediate", "list", "plant")
	line := writeFile(t, s.dir, "line.pem", pki.EncodeCertificates(s.factory.line.Certificate))
	does("knows them", "intermediate", "add", "plant", line)
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
	second := s.factory.device(t, "SN-0002")
	if got := v.connect(second); got != "device_disabled" {
		t.Error(got)
	}
	does("is enabled", "device", "enable", "plant", "SN-0002")
	if got := v.connect(second); got != "device_known" {
		t.Error(got)
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

// fingerprint is how the API names a certificate.
func fingerprint(a *pki.Authority) string {
	sum := sha256.Sum256(a.Certificate.Raw)
	return hex.EncodeToString(sum[:])
}
