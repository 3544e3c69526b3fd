package provision_test

import (
	"strings"
	"testing"

	"github.com/hubgate/hubgate/provision"
)

// The IDs are a contract: these values may never change.
func TestIDsFollowFromNames(t *testing.T) {
	t.Parallel()
	hub, err := provision.ParseHubID("0b7d5c1e-4a53-4a0e-9d5c-2f6a1b3c4d5e")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := provision.DeviceIDOf(hub, "SN-0001").String(), "4c8e82b9-ae4c-83df-bda1-6e1249c2b678"; got != want {
		t.Errorf("DeviceIDOf = %s, want %s", got, want)
	}
	if got, want := provision.DeclaredHubID("factory").String(), "f888c14a-64f3-8903-856e-130a8579a7ba"; got != want {
		t.Errorf("DeclaredHubID = %s, want %s", got, want)
	}
}

func TestDevicesShareTheirHubsPartition(t *testing.T) {
	t.Parallel()
	for range 200 {
		hub := provision.NewHubID()
		for _, name := range []string{"a", "SN-0001", strings.Repeat("ü", provision.MaxNameRunes)} {
			id := provision.DeviceIDOf(hub, name)
			if got, want := id.Partition(64), hub.Partition(64); got != want {
				t.Fatalf("device %s of hub %s is in partition %d, its hub in %d", id, hub, got, want)
			}
			if id.Version() != 8 || id.Variant().String() != "RFC4122" {
				t.Fatalf("device ID %s is version %d, variant %s", id, id.Version(), id.Variant())
			}
		}
	}
}

func TestParseIDTakesTheCanonicalFormOnly(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "factory", "{0b7d5c1e-4a53-4a0e-9d5c-2f6a1b3c4d5e}", "urn:uuid:0b7d5c1e-4a53-4a0e-9d5c-2f6a1b3c4d5e", "0b7d5c1e4a534a0e9d5c2f6a1b3c4d5e"} {
		if _, err := provision.ParseHubID(s); err == nil {
			t.Errorf("ParseHubID(%q) succeeded", s)
		}
	}
}

func TestHubNames(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{
		"factory": true, "a": true, "line-7": true, strings.Repeat("a", 63): true,
		"": false, "Factory": false, "-a": false, "a-": false, "a.b": false, "a_b": false,
		strings.Repeat("a", 64):                false,
		"0b7d5c1e-4a53-4a0e-9d5c-2f6a1b3c4d5e": false,
	} {
		if err := provision.CheckHubName(name); (err == nil) != ok {
			t.Errorf("CheckHubName(%q) = %v, want ok %t", name, err, ok)
		}
	}
}
