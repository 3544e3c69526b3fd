package record

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"time"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// What is revoked on a hub is stored as fields of one table: each begins with
// what kind it is.
//
//	"r" ‖ ID               revocation: what was revoked by hand
//	"c" ‖ issuer's key     crl: what is known of the issuer's newest list
//
// There are few of them, and none is edited field by field, so they are JSON,
// which people can read.
const (
	fieldRevocation = "r"
	fieldCRL        = "c"
	// revocationsSchema is the version of their form that this build writes.
	revocationsSchema = 1
)

type revocation struct {
	Schema int       `json:"schema"`
	Issuer string    `json:"issuer,omitempty"`
	Serial *big.Int  `json:"serial,omitempty"`
	Key    string    `json:"key,omitempty"`
	Reason string    `json:"reason,omitempty"`
	By     string    `json:"by,omitempty"`
	At     time.Time `json:"at"`
}

type crl struct {
	Schema     int       `json:"schema"`
	Digest     string    `json:"sha256"`
	Name       string    `json:"name"`
	Number     *big.Int  `json:"number"`
	ThisUpdate time.Time `json:"this_update"`
	NextUpdate time.Time `json:"next_update"`
	Entries    int       `json:"entries"`
	Size       int       `json:"size"`
	AddedAt    time.Time `json:"added_at"`
	Sources    []string  `json:"sources,omitempty"`
}

// EncodeRevocations returns the fields of what is revoked on a hub. The lists
// themselves are not in them.
func EncodeRevocations(r provision.Revocations) (map[string][]byte, error) {
	fields := make(map[string][]byte, len(r.ByHand)+len(r.CRLs))
	for id, v := range r.ByHand {
		stored := revocation{Schema: revocationsSchema, Serial: v.Serial, Reason: v.Reason, By: v.By, At: v.At.UTC()}
		if v.Serial != nil {
			stored.Issuer = v.Issuer.String()
		} else {
			stored.Key = v.Key.String()
		}
		b, err := json.Marshal(stored)
		if err != nil {
			return nil, fmt.Errorf("encode revocation: %w", err)
		}
		fields[fieldRevocation+string(id[:])] = b
	}
	for issuer, c := range r.CRLs {
		b, err := json.Marshal(crl{
			Schema: revocationsSchema, Digest: c.Digest.String(), Name: c.Name, Number: c.Number,
			ThisUpdate: c.ThisUpdate.UTC(), NextUpdate: c.NextUpdate.UTC(),
			Entries: c.Entries, Size: c.Size, AddedAt: c.AddedAt.UTC(), Sources: c.Sources,
		})
		if err != nil {
			return nil, fmt.Errorf("encode CRL: %w", err)
		}
		fields[fieldCRL+string(issuer[:])] = b
	}
	return fields, nil
}

// DecodeRevocations reads the fields; its error is ErrCorrupt.
func DecodeRevocations(fields map[string][]byte) (provision.Revocations, error) {
	r := provision.Revocations{
		ByHand: make(map[trust.RevocationID]provision.Revocation),
		CRLs:   make(map[trust.KeyHash]provision.StoredCRL),
	}
	for field, value := range fields {
		if err := decodeRevocation(&r, field, value); err != nil {
			return r, fmt.Errorf("%w: what is revoked, field %s: %w", ErrCorrupt, hex.EncodeToString([]byte(field)), err)
		}
	}
	return r, nil
}

func decodeRevocation(r *provision.Revocations, field string, value []byte) error {
	switch {
	case len(field) == len(fieldRevocation)+len(trust.RevocationID{}) && field[:1] == fieldRevocation:
		v, err := readRevocation(value)
		if err == nil && !bytes.Equal([]byte(field[1:]), idOf(v)) {
			err = fmt.Errorf("it holds the revocation %s", v.ID())
		}
		r.ByHand[v.ID()] = v
		return err
	case len(field) == len(fieldCRL)+len(trust.KeyHash{}) && field[:1] == fieldCRL:
		c, err := readCRL(value)
		r.CRLs[trust.KeyHash([]byte(field[1:]))] = c
		return err
	}
	return fmt.Errorf("a field of %d bytes", len(field)) // fail closed: it may revoke something
}

func idOf(v provision.Revocation) []byte {
	id := v.ID()
	return id[:]
}

func readRevocation(b []byte) (v provision.Revocation, err error) {
	var stored revocation
	if err := json.Unmarshal(b, &stored); err != nil {
		return v, err
	}
	v = provision.Revocation{Serial: stored.Serial, Reason: stored.Reason, By: stored.By, At: stored.At}
	if v.Serial != nil {
		v.Issuer, err = trust.ParseKeyHash(stored.Issuer)
	} else {
		v.Key, err = trust.ParseKeyHash(stored.Key)
	}
	return v, err
}

func readCRL(b []byte) (provision.StoredCRL, error) {
	var stored crl
	if err := json.Unmarshal(b, &stored); err != nil {
		return provision.StoredCRL{}, err
	}
	if stored.Number == nil {
		return provision.StoredCRL{}, fmt.Errorf("a CRL without a number")
	}
	digest, err := trust.ParseFingerprint(stored.Digest)
	return provision.StoredCRL{
		Digest: digest, Name: stored.Name, Number: stored.Number, ThisUpdate: stored.ThisUpdate, NextUpdate: stored.NextUpdate,
		Entries: stored.Entries, Size: stored.Size, AddedAt: stored.AddedAt, Sources: stored.Sources,
	}, err
}

// RevocationsEdit is what an edit changes of the stored fields, and of the lists
// by their issuers' keys. A nil value removes.
type RevocationsEdit struct {
	Fields map[string][]byte
	Lists  map[trust.KeyHash][]byte
}

// EditRevocations makes an edit of the fields. It returns
// provision.ErrUnchanged if it changes nothing.
func EditRevocations(fields map[string][]byte, change func(*provision.Revocations) error) (RevocationsEdit, error) {
	r, err := DecodeRevocations(fields)
	if err != nil {
		return RevocationsEdit{}, err
	}
	if err := change(&r); err != nil {
		return RevocationsEdit{}, err
	}
	after, err := EncodeRevocations(r)
	if err != nil {
		return RevocationsEdit{}, err
	}
	e := RevocationsEdit{Fields: make(map[string][]byte), Lists: make(map[trust.KeyHash][]byte)}
	for field, value := range after {
		if !bytes.Equal(fields[field], value) {
			e.Fields[field] = value
		}
	}
	for field := range fields {
		if _, stays := after[field]; stays {
			continue
		}
		e.Fields[field] = nil
		if field[:1] == fieldCRL {
			e.Lists[trust.KeyHash([]byte(field[1:]))] = nil
		}
	}
	if len(e.Fields) == 0 {
		return e, provision.ErrUnchanged
	}
	for issuer, c := range r.CRLs {
		if c.List != nil {
			e.Lists[issuer] = c.List
		}
	}
	return e, nil
}
