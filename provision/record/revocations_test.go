package record_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/record"
	"github.com/hubgate/hubgate/trust"
)

func sampleRevocations() provision.Revocations {
	at := time.Unix(1_790_000_000, 0).UTC()
	serial := provision.Revocation{Issuer: trust.KeyHash{1}, Serial: big.NewInt(4711), Reason: "stolen", By: "ci", At: at}
	key := provision.Revocation{Key: trust.KeyHash{2}, At: at}
	return provision.Revocations{
		ByHand: map[trust.RevocationID]provision.Revocation{serial.ID(): serial, key.ID(): key},
		CRLs: map[trust.KeyHash]provision.StoredCRL{{3}: {
			Digest: trust.Fingerprint{4}, Name: "CN=Acme Line", Number: new(big.Int).Lsh(big.NewInt(1), 150),
			ThisUpdate: at, NextUpdate: at.Add(time.Hour), Entries: 5, Size: 300, AddedAt: at, Sources: []string{"https://ca.example.com/line.crl"},
		}},
	}
}

func TestEverySchemaOfRevocationsIsRead(t *testing.T) {
	t.Parallel()
	fields, err := record.EncodeRevocations(sampleRevocations())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "revocations.v1.json")
	if os.Getenv("HUBGATE_RENEW") != "" {
		b, err := json.MarshalIndent(hexKeys(fields), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(b, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var golden map[string]string
	if err := json.Unmarshal(b, &golden); err != nil {
		t.Fatal(err)
	}
	if got := hexKeys(fields); !reflect.DeepEqual(got, golden) {
		t.Errorf("encoded as\n%v, golden is\n%v", got, golden)
	}
	stored := make(map[string][]byte)
	for k, v := range golden {
		field, err := hex.DecodeString(k)
		if err != nil {
			t.Fatal(err)
		}
		stored[string(field)] = []byte(v)
	}
	got, err := record.DecodeRevocations(stored)
	if err != nil || !reflect.DeepEqual(got, sampleRevocations()) {
		t.Errorf("%v\n got %+v\nwant %+v", err, got, sampleRevocations())
	}
}

func hexKeys(fields map[string][]byte) map[string]string {
	text := make(map[string]string)
	for k, v := range fields {
		text[hex.EncodeToString([]byte(k))] = string(v)
	}
	return text
}

func TestWhatIsNoRevocationIsRefused(t *testing.T) {
	t.Parallel()
	id, key := string(make([]byte, 16)), string(make([]byte, 32))
	for name, fields := range map[string]map[string][]byte{
		"unknown kind":         {"x" + id: []byte("{}")},
		"no kind":              {"": []byte("{}")},
		"short ID":             {"r": []byte("{}")},
		"no JSON":              {"r" + id: []byte("garbage")},
		"another's ID":         {"r" + id: []byte(`{"schema":1,"key":"` + trust.KeyHash{7}.String() + `"}`)},
		"no key":               {"r" + id: []byte(`{"schema":1}`)},
		"CRL without a number": {"c" + key: []byte(`{"schema":1,"sha256":"` + trust.Fingerprint{}.String() + `"}`)},
		"CRL without a digest": {"c" + key: []byte(`{"schema":1,"number":1}`)},
	} {
		if _, err := record.DecodeRevocations(fields); !errors.Is(err, record.ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", name, err)
		}
	}
}
