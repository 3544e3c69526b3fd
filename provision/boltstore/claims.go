package boltstore

import (
	"context"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/hubgate/hubgate/provision"
)

// clearBatch is how many claims go in one step: others wait for a step, never
// for the whole list.
const clearBatch = 2000

// What the bucket of claims has under a name.
var (
	claimFree = []byte{0}
	claimUsed = []byte{1}
)

func parseClaim(v []byte) (used bool, err error) {
	if len(v) != 1 || v[0] > 1 {
		return false, fmt.Errorf("claim %x", v)
	}
	return v[0] == claimUsed[0], nil
}

// checkClaim refuses a name that is not on the hub's claim list, or was used.
func (t *txn) checkClaim(hub provision.HubID, name string, policy provision.ClaimPolicy) error {
	v := t.get(bucketClaims, claimKey(hub, name))
	if v == nil {
		return fmt.Errorf("%w: the name is not on the hub's claim list", provision.ErrNotClaimed)
	}
	used, err := parseClaim(v)
	if err != nil {
		return err
	}
	if used && policy == provision.ClaimOnce {
		return fmt.Errorf("%w: the name has created a device before", provision.ErrNotClaimed)
	}
	return nil
}

// PutClaims puts names on the hub's claim list.
func (s *Store) PutClaims(ctx context.Context, hub provision.HubID, names []string) (added int, err error) {
	for _, name := range names {
		if len(name) < 1 || len(name) > maxNameBytes {
			return 0, fmt.Errorf("device name of %d bytes", len(name))
		}
	}
	err = s.write(ctx, func(t *txn) error {
		h, err := t.hub(hub.Partition(s.meta.partitions), hub)
		if err != nil {
			return err
		}
		if !h.exists || h.deleting {
			return fmt.Errorf("hub %s: %w", hub, provision.ErrHubChanged)
		}
		have, err := t.countClaims(hub)
		if err != nil {
			return err
		}
		fresh := make(map[string]struct{}, len(names))
		for _, name := range names {
			if t.get(bucketClaims, claimKey(hub, name)) == nil {
				fresh[name] = struct{}{}
			}
		}
		if have+len(fresh) > provision.MaxClaims {
			return fmt.Errorf("hub %s has %d claims, and can have %d: %w", hub, have, provision.MaxClaims, provision.ErrTooManyClaims)
		}
		for name := range fresh {
			t.put(bucketClaims, claimKey(hub, name), claimFree)
		}
		t.setClaims(hub, have, len(fresh))
		added = len(fresh)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return added, nil
}

// RemoveClaims takes names off the hub's claim list.
func (s *Store) RemoveClaims(ctx context.Context, hub provision.HubID, names []string) (removed int, err error) {
	err = s.write(ctx, func(t *txn) error {
		removed, err = t.removeClaims(hub, names)
		return err
	})
	if err != nil {
		return 0, err
	}
	return removed, nil
}

func (t *txn) removeClaims(hub provision.HubID, names []string) (removed int, err error) {
	have, err := t.countClaims(hub)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		key := claimKey(hub, name)
		if name != "" && t.get(bucketClaims, key) != nil {
			t.delete(bucketClaims, key)
			removed++
		}
	}
	t.setClaims(hub, have, -removed)
	return removed, nil
}

// ClearClaims takes all names off the hub's claim list, in steps.
func (s *Store) ClearClaims(ctx context.Context, hub provision.HubID) error {
	for done := false; !done; {
		err := s.write(ctx, func(t *txn) (err error) {
			done, err = t.clearClaims(hub)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// clearClaims takes some names off the list, and reports whether it is empty.
func (t *txn) clearClaims(hub provision.HubID) (bool, error) {
	var names []string
	err := scan(t.bucket(bucketClaims), hub.UUID[:], firstName, func(name, _ []byte) (bool, error) {
		names = append(names, string(name))
		return len(names) < clearBatch, nil
	})
	if err != nil || len(names) == 0 {
		return err == nil, err
	}
	_, err = t.removeClaims(hub, names)
	return len(names) < clearBatch, err
}

func (t *txn) countClaims(hub provision.HubID) (int, error) {
	n, err := parseNumber(t.get(bucketClaims, claimKey(hub, "")))
	if err != nil {
		return 0, fmt.Errorf("claims of hub %s: %w", hub, err)
	}
	return int(n), nil
}

// setClaims keeps the number of a hub's claims, which goes when it is 0.
func (t *txn) setClaims(hub provision.HubID, have, more int) {
	switch key := claimKey(hub, ""); {
	case more == 0:
	case have+more == 0:
		t.delete(bucketClaims, key)
	default:
		t.put(bucketClaims, key, number(uint64(have+more)))
	}
}

// ListClaims returns one page of the hub's claim list. A cursor is one of the
// names, as they are in order here.
func (s *Store) ListClaims(ctx context.Context, hub provision.HubID, cursor string, limit int) (page []provision.Claim, next string, err error) {
	if limit < 1 {
		return nil, "", fmt.Errorf("page of %d claims", limit)
	}
	from := firstName
	if cursor != "" {
		from = append([]byte(cursor), 0) // the next possible name
	}
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		return scan(tx.Bucket(bucketClaims), hub.UUID[:], from, func(name, v []byte) (bool, error) {
			if len(page) == limit {
				next = page[limit-1].Name
				return false, nil
			}
			used, err := parseClaim(v)
			page = append(page, provision.Claim{Name: string(name), Used: used})
			return true, err
		})
	})
	if err != nil {
		return nil, "", err
	}
	return page, next, nil
}

// CountClaims returns how many names are on the hub's claim list.
func (s *Store) CountClaims(ctx context.Context, hub provision.HubID) (n int, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		count, err := parseNumber(tx.Bucket(bucketClaims).Get(claimKey(hub, "")))
		n = int(count)
		return err
	})
	return n, err
}
