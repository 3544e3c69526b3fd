package record_test

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/record"
	"github.com/hubgate/hubgate/trust"
)

var hubID = provision.DeclaredHubID("factory")

// The samples behind the golden files of testdata. A released schema's files
// are never changed; a new schema adds its own.
func sampleHub() provision.Hub {
	return provision.Hub{
		ID: hubID, Name: "factory", Version: 7, Declared: "hubgate.yaml", Disabled: true, Deleting: true,
		AutoProvisioning: true, SNIOnly: true, UnicodeNames: true,
		Anchors: [][]byte{{0x30, 1}, {0x30, 2}}, Intermediates: [][]byte{{0x30, 3}},
		CreatedAt: time.Unix(1_790_000_000, 123).UTC(), UpdatedAt: time.Unix(1_790_000_001, 0).UTC(),
	}
}

// sampleHub2 has everything that schema 2 added.
func sampleHub2() provision.Hub {
	h := sampleHub()
	h.Declared = ""
	h.Project = uuid.MustParse("6f1c1d4e-7a0e-4a51-9a55-0d2f3b1c2a10")
	h.EventsDisabled, h.EventsTopicPrefix, h.ProductPlan = true, "$SCW/events", "plan_shared"
	h.AnchorFacts = map[trust.Fingerprint]provision.AnchorFacts{
		{9}: {AddedAt: time.Unix(1_790_000_003, 0).UTC(), AddedBy: "ci"},
		{7}: {AddedAt: time.Unix(1_790_000_004, 0).UTC(), AddedBy: "local", Waived: true, WaiverReason: "vendor's CA"},
		{8}: {},
	}
	h.Proposal = &provision.Proposal{
		ID: uuid.MustParse("2b7c5f0a-3c1d-4d8e-8f8a-1c9f0e7d6b5a"), At: time.Unix(1_790_000_005, 6).UTC(),
		Anchors: [][]byte{{0x30, 1}, {0x30, 4}}, Intermediates: [][]byte{{0x30, 5}}, SNIOnly: true,
	}
	return h
}

// sampleHub3 has everything that schema 3 added.
func sampleHub3() provision.Hub {
	h := sampleHub2()
	facts := h.AnchorFacts[trust.Fingerprint{9}]
	facts.Group = "vendor"
	h.AnchorFacts[trust.Fingerprint{9}] = facts
	h.Proposal.Admission = []provision.AdmissionRule{{NamePattern: "SN-.*", Issuer: trust.KeyHash{8}}}
	h.Policy = provision.Policy{
		Connections: provision.Reject, Keys: provision.PinKeys, Revocation: provision.RefuseUnlisted,
		Admission: []provision.AdmissionRule{
			{Anchor: trust.KeyHash{5}, NamePattern: "SN-[0-9]+", Issuer: trust.KeyHash{6}, Claims: provision.ClaimOnce},
			{Hook: "https://hook.example.com/admit"},
		},
		MaxDevices: 500, FirstConnectionsPerSecond: 20, MaxSessionAge: 24 * time.Hour, NoOutage: true,
		CustomCertificates: true,
	}
	h.CRLSources, h.Revocations = []string{"https://ca.example.com/line.crl"}, 3
	return h
}

// unboundDevice is one that an administrator made and that never connected.
func unboundDevice() provision.Device {
	d := sampleDevice()
	d.FirstKey, d.CurrentKey, d.Anchor, d.Issuer = trust.KeyHash{}, trust.KeyHash{}, trust.KeyHash{}, trust.KeyHash{}
	d.ProvisionedFrom, d.Description, d.DisabledReason = netip.Addr{}, "", "stolen"
	return d
}

func sampleDevice() provision.Device {
	from := netip.MustParseAddr("192.0.2.7")
	return provision.Device{
		ID: provision.DeviceIDOf(hubID, "SN-0001"), Hub: hubID, Name: "SN-0001", Description: "pump 7", Version: 3,
		Disabled: true, AllowInsecure: true, AllowMultipleConnections: true,
		Filters: &provision.Filters{
			Publish:   provision.Filter{Reject: true, Topics: []string{"a/#"}},
			Subscribe: provision.Filter{Topics: []string{"b/+", "c"}},
		},
		FirstKey: trust.KeyHash{1}, CurrentKey: trust.KeyHash{2}, Anchor: trust.KeyHash{3}, Issuer: trust.KeyHash{4},
		ProvisionedFrom:   from,
		SessionsEndBefore: time.Unix(1_790_000_002, 0).UTC(),
		CreatedAt:         time.Unix(1_790_000_000, 123).UTC(), UpdatedAt: time.Unix(1_790_000_001, 0).UTC(),
	}
}

// sampleDevice3 has everything that schema 3 added.
func sampleDevice3() provision.Device {
	d := sampleDevice()
	d.Secret, d.PendingKey = provision.SecretHash{8}, trust.KeyHash{5}
	d.Custom = &provision.CustomCertificate{DER: []byte{0x30, 0}, Key: trust.KeyHash{6}, Expires: time.Unix(1_800_000_000, 0).UTC()}
	return d
}

// newDevice is a device as a first connection leaves it: most fields follow
// from others.
func newDevice() provision.Device {
	d := sampleDevice()
	d.Description = provision.ProvisionedBy(d.ProvisionedFrom)
	d.Version, d.Disabled, d.AllowInsecure, d.AllowMultipleConnections, d.Filters = 1, false, false, false, nil
	d.CurrentKey, d.UpdatedAt, d.SessionsEndBefore = d.FirstKey, d.CreatedAt, time.Time{}
	return d
}

// TestEverySchemaIsRead: what any released version wrote is read as it was
// meant, and what this version writes is what its golden files have.
func TestEverySchemaIsRead(t *testing.T) {
	t.Parallel()
	read := func(name string) []byte {
		t.Helper()
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	written := func(name string, got []byte, err error) {
		t.Helper()
		if os.Getenv("HUBGATE_RENEW") != "" && err == nil {
			if err := os.WriteFile(filepath.Join("testdata", name), got, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if want := read(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v, encoded as\n%x, golden is\n%x", name, err, got, want)
		}
	}
	for name, want := range map[string]provision.Hub{"hub.v1.bin": sampleHub(), "hub.v2.bin": sampleHub2(), "hub.v3.bin": sampleHub3()} {
		if got, err := record.DecodeHub(read(name)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", name, err, got, want)
		}
	}
	devices := map[string]provision.Device{
		"device.v1.bin": sampleDevice(), "device-new.v1.bin": newDevice(),
		"device.v2.bin": sampleDevice(), "device-new.v2.bin": newDevice(), "device-unbound.v2.bin": unboundDevice(),
		"device.v3.bin": sampleDevice3(), "device-new.v3.bin": newDevice(), "device-unbound.v3.bin": unboundDevice(),
	}
	for name, want := range devices {
		if got, err := record.DecodeDevice(hubID, read(name)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", name, err, got, want)
		}
		if strings.Contains(name, ".v3.") {
			b, err := record.EncodeDevice(want)
			written(name, b, err)
		}
	}
	b, err := record.EncodeHub(sampleHub3())
	written("hub.v3.bin", b, err)
}

func TestANewDeviceIsSmall(t *testing.T) {
	t.Parallel()
	b, err := record.EncodeDevice(newDevice())
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 140 {
		t.Errorf("a new device takes %d bytes, more than 140", len(b))
	}
}

func TestFieldsOfANewerSchemaSurvive(t *testing.T) {
	t.Parallel()
	b, err := record.EncodeDevice(sampleDevice())
	if err != nil {
		t.Fatal(err)
	}
	newer := protowire.AppendTag(b, 1000, protowire.BytesType)
	newer = protowire.AppendString(newer, "from the future")
	d, err := record.DecodeDevice(hubID, newer)
	if err != nil {
		t.Fatal(err)
	}
	d.Disabled = false
	again, err := record.EncodeDevice(d)
	if err != nil {
		t.Fatal(err)
	}
	d, err = record.DecodeDevice(hubID, again)
	if err != nil || len(d.Unknown) == 0 || d.Disabled {
		t.Errorf("after a rewrite: %v, unknown %q", err, d.Unknown)
	}
}

func TestWhatIsNoRecordIsRefused(t *testing.T) {
	t.Parallel()
	for name, b := range map[string][]byte{
		"empty":            {},
		"garbage":          []byte("garbage"),
		"no schema number": protowire.AppendString(protowire.AppendTag(nil, 2, protowire.BytesType), "SN"),
	} {
		if _, err := record.DecodeDevice(hubID, b); !errors.Is(err, record.ErrCorrupt) {
			t.Errorf("device, %s: %v, want ErrCorrupt", name, err)
		}
		if _, err := record.DecodeHub(b); !errors.Is(err, record.ErrCorrupt) {
			t.Errorf("hub, %s: %v, want ErrCorrupt", name, err)
		}
	}
}

// FuzzDecode: what decodes, encodes to something that decodes to the same.
func FuzzDecode(f *testing.F) {
	for _, name := range []string{"hub.v1.bin", "hub.v2.bin", "hub.v3.bin", "device.v1.bin", "device-new.v1.bin", "device-unbound.v2.bin"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, err := record.DecodeDevice(hubID, b); err == nil {
			enc, err := record.EncodeDevice(d)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := record.DecodeDevice(hubID, enc); err != nil || !reflect.DeepEqual(again, d) {
				t.Fatalf("%v\n got %+v\nwant %+v", err, again, d)
			}
		}
		if h, err := record.DecodeHub(b); err == nil {
			enc, err := record.EncodeHub(h)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := record.DecodeHub(enc); err != nil || !reflect.DeepEqual(again, h) {
				t.Fatalf("%v\n got %+v\nwant %+v", err, again, h)
			}
		}
	})
}

// TestAPolicyOfANewerVersionSurvives: and keeps its hub from serving here.
func TestAPolicyOfANewerVersionSurvives(t *testing.T) {
	t.Parallel()
	policy := protowire.AppendString(protowire.AppendTag(nil, 1000, protowire.BytesType), "a rule of the future")
	b, err := record.EncodeHub(sampleHub2())
	if err != nil {
		t.Fatal(err)
	}
	b = protowire.AppendBytes(protowire.AppendTag(b, 21, protowire.BytesType), policy)
	h, err := record.DecodeHub(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := provision.CheckPolicy(h.Policy); err == nil {
		t.Error("a policy that is not understood is in force")
	}
	h.Disabled = !h.Disabled
	again, err := record.EncodeHub(h)
	if err != nil {
		t.Fatal(err)
	}
	if h, err = record.DecodeHub(again); err != nil || !bytes.Equal(h.Policy.Newer, policy) {
		t.Errorf("after a rewrite: %v, %x, want %x", err, h.Policy.Newer, policy)
	}
}
