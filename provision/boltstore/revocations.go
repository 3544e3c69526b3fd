package boltstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/record"
	"github.com/hubgate/hubgate/trust"
)

// Revocations returns what is revoked on the hub.
func (s *Store) Revocations(ctx context.Context, hub provision.HubID) (r provision.Revocations, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		fields, err := revokedFields(tx.Bucket(bucketRevoked), hub)
		if err != nil {
			return err
		}
		r, err = record.DecodeRevocations(fields)
		return err
	})
	return r, err
}

func revokedFields(b *bbolt.Bucket, hub provision.HubID) (map[string][]byte, error) {
	fields := make(map[string][]byte)
	err := scan(b, hub.UUID[:], nil, func(field, value []byte) (bool, error) {
		fields[string(field)] = value
		return true, nil
	})
	return fields, err
}

// CRL returns the newest list of that issuer.
func (s *Store) CRL(ctx context.Context, hub provision.HubID, issuer trust.KeyHash) (der []byte, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		if der = bytes.Clone(tx.Bucket(bucketCRLs).Get(crlKey(hub, issuer))); der == nil {
			return fmt.Errorf("CRL of %s: %w", issuer, provision.ErrNotFound)
		}
		return nil
	})
	return der, err
}

// UpdateRevocations edits what is revoked on a hub.
func (s *Store) UpdateRevocations(ctx context.Context, id provision.HubID, change func(*provision.Revocations) error, event func(provision.Hub) provision.Event) error {
	for {
		if err := s.tryUpdateRevocations(ctx, id, change, event); !errors.Is(err, errConflict) {
			return err
		}
	}
}

func (s *Store) tryUpdateRevocations(ctx context.Context, id provision.HubID, change func(*provision.Revocations) error, event func(provision.Hub) provision.Event) error {
	var (
		hub    provision.Hub
		before []byte
		edit   record.RevocationsEdit
	)
	err := s.view(ctx, func(tx *bbolt.Tx) (err error) {
		before = bytes.Clone(tx.Bucket(bucketHubs).Get(s.hubKey(id)))
		if before == nil {
			return fmt.Errorf("hub %s: %w", id, provision.ErrNotFound)
		}
		if hub, err = record.DecodeHub(before); err != nil {
			return err
		}
		if hub.Deleting {
			return fmt.Errorf("hub %s is being deleted: %w", hub.Name, provision.ErrHubChanged)
		}
		fields, err := revokedFields(tx.Bucket(bucketRevoked), id)
		if err != nil {
			return err
		}
		edit, err = record.EditRevocations(fields, change)
		return err
	})
	if err != nil {
		return err
	}
	hub.Version++
	hub.Revocations++
	stored, encoded, err := encodeHubAndEvent(hub, event(hub))
	if err != nil {
		return err
	}
	return s.write(ctx, func(t *txn) error {
		if !bytes.Equal(t.get(bucketHubs, s.hubKey(id)), before) {
			return errConflict
		}
		for field, value := range edit.Fields {
			t.set(bucketRevoked, append(bytes.Clone(id.UUID[:]), field...), value)
		}
		for issuer, list := range edit.Lists {
			t.set(bucketCRLs, crlKey(id, issuer), list)
		}
		t.storeHub(hub, stored)
		partition := id.Partition(s.meta.partitions)
		t.appendEvent(partition, encoded)
		t.changed(partition, provision.Change{Kind: provision.RevocationsChanged, Hub: id})
		return nil
	})
}

// set puts a value, or removes the key if it is nil.
func (t *txn) set(bucket, key, value []byte) {
	if value == nil {
		t.delete(bucket, key)
		return
	}
	t.put(bucket, key, value)
}
