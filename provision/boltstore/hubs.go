package boltstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/record"
	"github.com/hubgate/hubgate/trust"
)

// purgeBatch is how many devices of a deleted hub go in one step: others wait
// for a step, never for the whole hub.
const purgeBatch = 500

// errConflict: the record is no longer what the edit was evaluated on.
var errConflict = errors.New("record has changed")

// Hub returns the hub's record.
func (s *Store) Hub(ctx context.Context, id provision.HubID) (provision.Hub, error) {
	hub, _, err := s.readHub(ctx, id)
	return hub, err
}

// readHub returns the hub's record and its stored bytes.
func (s *Store) readHub(ctx context.Context, id provision.HubID) (hub provision.Hub, stored []byte, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		stored = bytes.Clone(tx.Bucket(bucketHubs).Get(s.hubKey(id)))
		if stored == nil {
			return fmt.Errorf("hub %s: %w", id, provision.ErrNotFound)
		}
		hub, err = record.DecodeHub(stored)
		return err
	})
	return hub, stored, err
}

// HubByName returns the hub of that name.
func (s *Store) HubByName(ctx context.Context, name string) (hub provision.Hub, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketNames).Get([]byte(name))
		if len(b) != 16 {
			return fmt.Errorf("hub %q: %w", name, provision.ErrNotFound)
		}
		hub, err = record.DecodeHub(tx.Bucket(bucketHubs).Get(s.hubKey(provision.HubID{UUID: [16]byte(b)})))
		return err
	})
	return hub, err
}

// Hubs returns the hubs of one partition.
func (s *Store) Hubs(ctx context.Context, partition int) (hubs []provision.StoredHub, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		learnings := tx.Bucket(bucketLearned)
		return scan(tx.Bucket(bucketHubs), partitionKey(partition), nil, func(_, v []byte) (bool, error) {
			hub, err := record.DecodeHub(v)
			if err != nil {
				return false, err
			}
			learned, err := learnedBy(learnings, hub.ID)
			hubs = append(hubs, provision.StoredHub{Hub: &hub, Learned: learned})
			return true, err
		})
	})
	return hubs, err
}

// Learned returns the intermediates that the hub has learned.
func (s *Store) Learned(ctx context.Context, hub provision.HubID) (learned [][]byte, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		learned, err = learnedBy(tx.Bucket(bucketLearned), hub)
		return err
	})
	return learned, err
}

func learnedBy(b *bbolt.Bucket, hub provision.HubID) (learned [][]byte, err error) {
	err = scan(b, hub.UUID[:], nil, func(_, der []byte) (bool, error) {
		learned = append(learned, bytes.Clone(der))
		return true, nil
	})
	return learned, err
}

// Learn remembers intermediates, up to provision.MaxLearned of the hub. A hub
// that is gone or going learns nothing: provision.ErrHubChanged.
func (s *Store) Learn(ctx context.Context, hub provision.HubID, intermediates [][]byte) error {
	partition := hub.Partition(s.meta.partitions)
	return s.write(ctx, func(t *txn) error {
		h, err := t.hub(partition, hub)
		if err != nil {
			return err
		}
		if !h.exists || h.deleting {
			return fmt.Errorf("hub %s: %w", hub, provision.ErrHubChanged)
		}
		known := 0
		err = scan(t.bucket(bucketLearned), hub.UUID[:], nil, func(_, _ []byte) (bool, error) {
			known++
			return true, nil
		})
		if err != nil {
			return err
		}
		before := known
		for _, der := range intermediates {
			key := learnedKey(hub, der)
			if known < provision.MaxLearned && t.get(bucketLearned, key) == nil {
				t.put(bucketLearned, key, der)
				known++
			}
		}
		if known > before {
			t.changed(partition, provision.Change{Kind: provision.LearnedChanged, Hub: hub})
		}
		return nil
	})
}

// Forget removes an intermediate that the hub has learned.
func (s *Store) Forget(ctx context.Context, hub provision.HubID, intermediate trust.Fingerprint) (found bool, err error) {
	key := append(slices.Clone(hub.UUID[:]), intermediate[:]...)
	err = s.write(ctx, func(t *txn) error {
		if found = t.get(bucketLearned, key) != nil; found {
			t.delete(bucketLearned, key)
			t.changed(hub.Partition(s.meta.partitions), provision.Change{Kind: provision.LearnedChanged, Hub: hub})
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	return found, nil
}

// ClaimHub records a declared hub.
func (s *Store) ClaimHub(ctx context.Context, hub provision.Hub) error {
	if err := provision.CheckHubName(hub.Name); err != nil {
		return err
	}
	if hub.Declared == "" {
		return fmt.Errorf("claim of hub %s: no file declares it", hub.Name)
	}
	return s.write(ctx, func(t *txn) error {
		key := s.hubKey(hub.ID)
		claimed := provision.Hub{ID: hub.ID, Name: hub.Name, Declared: hub.Declared}
		old := provision.Hub{}
		if b := t.get(bucketHubs, key); b != nil {
			var err error
			if old, err = record.DecodeHub(b); err != nil {
				return err
			}
			if old.Declared == "" || old.Deleting {
				return fmt.Errorf("hub %s is stored as %q: %w", hub.ID, old.Name, provision.ErrExists)
			}
			claimed.Unknown, claimed.Version, claimed.Revocations = old.Unknown, old.Version, old.Revocations
		}
		if err := t.checkName(hub); err != nil {
			return err
		}
		if old.Name == hub.Name && old.Declared == hub.Declared {
			return nil
		}
		b, err := record.EncodeHub(claimed)
		if err != nil {
			return err
		}
		t.putHub(old.Name, claimed, b)
		return nil
	})
}

// CreateHub stores a new hub.
func (s *Store) CreateHub(ctx context.Context, hub provision.Hub, event provision.Event) (provision.Hub, error) {
	if err := provision.CheckHubName(hub.Name); err != nil {
		return provision.Hub{}, err
	}
	hub.Version, hub.Declared, hub.Deleting = 1, "", false
	stored, encoded, err := encodeHubAndEvent(hub, event)
	if err != nil {
		return provision.Hub{}, err
	}
	err = s.write(ctx, func(t *txn) error {
		if t.get(bucketHubs, s.hubKey(hub.ID)) != nil {
			return fmt.Errorf("hub %s: %w", hub.ID, provision.ErrExists)
		}
		if err := t.checkName(hub); err != nil {
			return err
		}
		t.putHub("", hub, stored)
		t.appendEvent(hub.ID.Partition(s.meta.partitions), encoded)
		return nil
	})
	if err != nil {
		return provision.Hub{}, err
	}
	return hub, nil
}

// UpdateHub edits a stored hub. A declared one is not found, one that is being
// deleted has changed.
func (s *Store) UpdateHub(ctx context.Context, id provision.HubID, edit func(*provision.Hub) error, event func(provision.Hub) provision.Event) (provision.Hub, error) {
	for {
		hub, err := s.tryUpdateHub(ctx, id, edit, event)
		if !errors.Is(err, errConflict) {
			return hub, err
		}
	}
}

func (s *Store) tryUpdateHub(ctx context.Context, id provision.HubID, edit func(*provision.Hub) error, event func(provision.Hub) provision.Event) (provision.Hub, error) {
	hub, before, err := s.readHub(ctx, id)
	if err != nil {
		return provision.Hub{}, err
	}
	if hub.Declared != "" {
		return provision.Hub{}, fmt.Errorf("hub %s is declared in %s, not stored: %w", hub.Name, hub.Declared, provision.ErrNotFound)
	}
	if hub.Deleting {
		return provision.Hub{}, fmt.Errorf("hub %s is being deleted: %w", hub.Name, provision.ErrHubChanged)
	}
	version, oldName := hub.Version, hub.Name
	if err := edit(&hub); err != nil {
		return provision.Hub{}, err
	}
	hub.ID, hub.Version, hub.Declared, hub.Deleting = id, version+1, "", false
	if err := provision.CheckHubName(hub.Name); err != nil {
		return provision.Hub{}, err
	}
	stored, encoded, err := encodeHubAndEvent(hub, event(hub))
	if err != nil {
		return provision.Hub{}, err
	}
	err = s.write(ctx, func(t *txn) error {
		if !bytes.Equal(t.get(bucketHubs, s.hubKey(id)), before) {
			return errConflict
		}
		if err := t.checkName(hub); err != nil {
			return err
		}
		t.putHub(oldName, hub, stored)
		t.appendEvent(id.Partition(s.meta.partitions), encoded)
		return nil
	})
	if err != nil {
		return provision.Hub{}, err
	}
	return hub, nil
}

// DeleteHub removes the hub and all its own, its devices in steps.
func (s *Store) DeleteHub(ctx context.Context, id provision.HubID, event provision.Event) error {
	return s.deleteHub(ctx, id, event, false)
}

// DeleteEmptyHub removes a hub that has no devices.
func (s *Store) DeleteEmptyHub(ctx context.Context, id provision.HubID, event provision.Event) error {
	return s.deleteHub(ctx, id, event, true)
}

func (s *Store) deleteHub(ctx context.Context, id provision.HubID, event provision.Event, empty bool) error {
	encoded, err := encodeEvent(event)
	if err != nil {
		return err
	}
	if err := s.write(ctx, func(t *txn) error { return t.markDeleting(id, encoded, empty) }); err != nil {
		return err
	}
	for done := false; !done; {
		err := s.write(ctx, func(t *txn) (err error) {
			done, err = t.purge(id)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// markDeleting is the step after which nothing is created on the hub. One that
// has to be empty and is not stays.
func (t *txn) markDeleting(id provision.HubID, event []byte, empty bool) error {
	b := t.get(bucketHubs, t.store.hubKey(id))
	if b == nil {
		return fmt.Errorf("hub %s: %w", id, provision.ErrNotFound)
	}
	hub, err := record.DecodeHub(b)
	if err != nil || hub.Deleting {
		return err
	}
	state, err := t.hub(id.Partition(t.store.meta.partitions), id)
	if err != nil {
		return err
	}
	if n := state.counters.devices; empty && n > 0 {
		return fmt.Errorf("hub %s: %w: %d", hub.Name, provision.ErrNotEmpty, n)
	}
	hub.Deleting = true
	if hub.Declared == "" {
		hub.Version++
	}
	if b, err = record.EncodeHub(hub); err != nil {
		return err
	}
	t.putHub(hub.Name, hub, b)
	t.appendEvent(id.Partition(t.store.meta.partitions), event)
	return nil
}

// purge removes devices and claims of a hub that is being deleted, and the hub
// itself with the last of them. It reports whether the hub is gone.
func (t *txn) purge(id provision.HubID) (bool, error) {
	b := t.get(bucketHubs, t.store.hubKey(id))
	if b == nil {
		return true, nil // somebody else finished it
	}
	hub, err := record.DecodeHub(b)
	if err != nil || !hub.Deleting {
		return true, err // finished, and created anew
	}
	var names []string
	err = scan(t.bucket(bucketDevices), id.UUID[:], nil, func(name, _ []byte) (bool, error) {
		names = append(names, string(name))
		return len(names) < purgeBatch, nil
	})
	if err != nil {
		return false, err
	}
	for _, name := range names {
		if err := t.removeDevice(id, name); err != nil {
			return false, err
		}
	}
	if len(names) == purgeBatch {
		return false, nil
	}
	if done, err := t.clearClaims(id); err != nil || !done {
		return false, err
	}
	for _, bucket := range [][]byte{bucketLearned, bucketAnchors, bucketRevoked, bucketCRLs} {
		if err := t.deleteOf(bucket, id); err != nil {
			return false, err
		}
	}
	t.delete(bucketCounters, id.UUID[:])
	t.delete(bucketNames, []byte(hub.Name))
	t.delete(bucketHubs, t.store.hubKey(id))
	t.hubs[id] = &hubState{}
	t.store.rates.forget(id)
	t.changed(id.Partition(t.store.meta.partitions), provision.Change{Kind: provision.HubChanged, Hub: id})
	return true, nil
}

// deleteOf removes what a bucket has of a hub.
func (t *txn) deleteOf(bucket []byte, hub provision.HubID) error {
	var keys [][]byte
	err := scan(t.bucket(bucket), hub.UUID[:], nil, func(rest, _ []byte) (bool, error) {
		keys = append(keys, slices.Concat(hub.UUID[:], rest))
		return true, nil
	})
	for _, key := range keys {
		t.delete(bucket, key)
	}
	return err
}

// checkName refuses a name that belongs to another hub.
func (t *txn) checkName(hub provision.Hub) error {
	if owner := t.get(bucketNames, []byte(hub.Name)); owner != nil && !bytes.Equal(owner, hub.ID.UUID[:]) {
		return fmt.Errorf("hub name %q: %w", hub.Name, provision.ErrExists)
	}
	return nil
}

// putHub writes the hub's record and moves its name.
func (t *txn) putHub(oldName string, hub provision.Hub, stored []byte) {
	if oldName != "" && oldName != hub.Name {
		t.delete(bucketNames, []byte(oldName))
	}
	if oldName != hub.Name {
		t.put(bucketNames, []byte(hub.Name), hub.ID.UUID[:])
	}
	t.storeHub(hub, stored)
	t.changed(hub.ID.Partition(t.store.meta.partitions), provision.Change{Kind: provision.HubChanged, Hub: hub.ID})
}

// storeHub writes the hub's record.
func (t *txn) storeHub(hub provision.Hub, stored []byte) {
	t.put(bucketHubs, t.store.hubKey(hub.ID), stored)
	if h := t.hubs[hub.ID]; h != nil {
		h.exists, h.version, h.deleting = true, hub.Version, hub.Deleting
	}
}

func (s *Store) hubKey(id provision.HubID) []byte {
	return hubKey(id.Partition(s.meta.partitions), id)
}

func encodeHubAndEvent(hub provision.Hub, event provision.Event) (stored, encoded []byte, err error) {
	if stored, err = record.EncodeHub(hub); err != nil {
		return nil, nil, err
	}
	encoded, err = encodeEvent(event)
	return stored, encoded, err
}
