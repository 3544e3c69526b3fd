package boltstore

import (
	"context"
	"fmt"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/record"
)

// maxPut bounds how many devices one transaction takes, and so how long it keeps
// others waiting.
const maxPut = 256

// PutDevices creates and edits devices, many in one transaction.
func (s *Store) PutDevices(ctx context.Context, hub provision.HubID, puts []provision.Put) ([]provision.PutResult, error) {
	for _, p := range puts {
		if len(p.Name) < 1 || len(p.Name) > maxNameBytes {
			return nil, fmt.Errorf("device name of %d bytes", len(p.Name))
		}
	}
	if s.Replaced() {
		return nil, fmt.Errorf("%s: %w", s.path, provision.ErrStoreChanged)
	}
	results := make([]provision.PutResult, len(puts))
	for begin := 0; begin < len(puts); begin += maxPut {
		end := min(begin+maxPut, len(puts))
		// What the writer sets is looked at only once it is done.
		batch := make([]provision.PutResult, end-begin)
		err := s.write(ctx, func(t *txn) error {
			state, err := t.hub(hub.Partition(s.meta.partitions), hub)
			if err != nil {
				return err
			}
			if !state.exists || state.deleting {
				return fmt.Errorf("hub %s: %w", hub, provision.ErrHubChanged)
			}
			for i, p := range puts[begin:end] {
				batch[i] = t.putDevice(state, hub, p)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		copy(results[begin:], batch)
	}
	return results, nil
}

func (t *txn) putDevice(state *hubState, hub provision.HubID, p provision.Put) provision.PutResult {
	key := deviceKey(hub, p.Name)
	var is *provision.Device
	if b := t.get(bucketDevices, key); b != nil {
		d, err := record.DecodeDevice(hub, b)
		if err != nil {
			return provision.PutResult{Err: err}
		}
		is = &d
	}
	d, result := p.Merged(hub, is)
	if result.Outcome != provision.PutCreated && result.Outcome != provision.PutUpdated {
		return result
	}
	stored, err := record.EncodeDevice(d)
	if err != nil {
		return provision.PutResult{Err: err}
	}
	if is == nil {
		t.addDevice(state, d, stored)
		return result
	}
	event, err := encodeEvent(p.Event(*is, d))
	if err != nil {
		return provision.PutResult{Err: err}
	}
	if err := t.replaceDevice(*is, d, stored, event); err != nil {
		return provision.PutResult{Err: err}
	}
	return result
}
