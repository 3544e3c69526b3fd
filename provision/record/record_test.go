package record_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

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

// newDevice is a device as a first connection leaves it: most fields follow
// from others.
func newDevice() provision.Device {
	d := sampleDevice()
	d.Description = provision.ProvisionedBy(d.ProvisionedFrom)
	d.Version, d.Disabled, d.AllowInsecure, d.AllowMultipleConnections, d.Filters = 1, false, false, false, nil
	d.CurrentKey, d.UpdatedAt, d.SessionsEndBefore = d.FirstKey, d.CreatedAt, time.Time{}
	return d
}

func TestEverySchemaIsRead(t *testing.T) {
	t.Parallel()
	golden := func(name string, encode func() ([]byte, error)) []byte {
		t.Helper()
		path := filepath.Join("testdata", name)
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := encode()
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s: encoded as\n%x, golden is\n%x", name, got, want)
		}
		return want
	}
	b := golden("hub.v1.bin", func() ([]byte, error) { return record.EncodeHub(sampleHub()) })
	if got, err := record.DecodeHub(b); err != nil || !reflect.DeepEqual(got, sampleHub()) {
		t.Errorf("hub: %v\n got %+v\nwant %+v", err, got, sampleHub())
	}
	for name, want := range map[string]provision.Device{"device.v1.bin": sampleDevice(), "device-new.v1.bin": newDevice()} {
		b := golden(name, func() ([]byte, error) { return record.EncodeDevice(want) })
		if got, err := record.DecodeDevice(hubID, b); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", name, err, got, want)
		}
	}
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
	for _, name := range []string{"hub.v1.bin", "device.v1.bin", "device-new.v1.bin"} {
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
