package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/record"
	"github.com/hubgate/hubgate/trust"
)

// fieldRecord is the field of a hub's hash that holds its record.
const fieldRecord = "r"

// Hub implements provision.Store.
func (s *Store) Hub(ctx context.Context, id provision.HubID) (provision.Hub, error) {
	h, _, err := s.hub(ctx, id)
	return h, err
}

// hub reads a hub and its record as it is stored.
func (s *Store) hub(ctx context.Context, id provision.HubID) (h provision.Hub, rec string, err error) {
	p := s.partition(id)
	var reply *redis.StringCmd
	err = s.pinned(ctx, p, func(ctx context.Context, pipe redis.Pipeliner) {
		reply = pipe.HGet(ctx, p.hub(id), fieldRecord)
	})
	if err == nil {
		rec, err = found(reply)
	}
	if err != nil {
		return provision.Hub{}, "", err
	}
	h, err = record.DecodeHub([]byte(rec))
	return h, rec, err
}

// HubByName implements provision.HubRegistry.
func (s *Store) HubByName(ctx context.Context, name string) (provision.Hub, error) {
	r, err := s.holder(ctx, name)
	if err != nil {
		return provision.Hub{}, err
	}
	if r.text == "" {
		return provision.Hub{}, provision.ErrNotFound
	}
	h, err := s.Hub(ctx, r.hub)
	if err != nil {
		return provision.Hub{}, err
	}
	if h.Name != name { // reserved, and never taken or left behind
		return provision.Hub{}, provision.ErrNotFound
	}
	return h, nil
}

// Hubs implements provision.Store.
func (s *Store) Hubs(ctx context.Context, number int) ([]provision.StoredHub, error) {
	p := s.parts[number]
	var members *redis.StringSliceCmd
	err := s.pinned(ctx, p, func(ctx context.Context, pipe redis.Pipeliner) {
		members = pipe.SMembers(ctx, p.hubs())
	})
	if err != nil || len(members.Val()) == 0 {
		return nil, err
	}
	ids := make([]provision.HubID, len(members.Val()))
	for i, text := range members.Val() {
		if ids[i], err = provision.ParseHubID(text); err != nil {
			return nil, err
		}
	}
	records, learned := make([]*redis.StringCmd, len(ids)), make([]*redis.StringSliceCmd, len(ids))
	err = s.pinned(ctx, p, func(ctx context.Context, pipe redis.Pipeliner) {
		for i, id := range ids {
			records[i] = pipe.HGet(ctx, p.hub(id), fieldRecord)
			learned[i] = pipe.SMembers(ctx, p.learned(id))
		}
	})
	if err != nil {
		return nil, err
	}
	hubs := make([]provision.StoredHub, 0, len(ids))
	for i, reply := range records {
		rec, err := reply.Result()
		if errors.Is(err, redis.Nil) {
			continue // deleted since the IDs were read
		}
		h, err := record.DecodeHub([]byte(rec))
		if err != nil {
			return nil, err
		}
		hubs = append(hubs, provision.StoredHub{Hub: &h, Learned: ders(learned[i])})
	}
	return hubs, nil
}

// Learned implements provision.Store.
func (s *Store) Learned(ctx context.Context, hub provision.HubID) ([][]byte, error) {
	p := s.partition(hub)
	var members *redis.StringSliceCmd
	err := s.pinned(ctx, p, func(ctx context.Context, pipe redis.Pipeliner) {
		members = pipe.SMembers(ctx, p.learned(hub))
	})
	if err != nil {
		return nil, err
	}
	return ders(members), nil
}

func ders(members *redis.StringSliceCmd) [][]byte {
	var ders [][]byte
	for _, m := range members.Val() {
		ders = append(ders, []byte(m))
	}
	return ders
}

// Learn implements provision.Store. A hub that is gone or being deleted is
// ErrHubChanged.
func (s *Store) Learn(ctx context.Context, hub provision.HubID, intermediates [][]byte) error {
	p := s.partition(hub)
	args := []any{provision.MaxLearned, encodeChange(provision.LearnedChanged, hub, provision.DeviceID{})}
	for _, der := range intermediates {
		args = append(args, der)
	}
	w, _, err := s.change(ctx, p, scriptLearn, []string{p.hub(hub), p.learned(hub)}, args...)
	if err != nil {
		return err
	}
	switch w {
	case wordOK:
		return nil
	case wordHub:
		return provision.ErrHubChanged
	default:
		return unexpected(w)
	}
}

// Forget implements provision.HubRegistry.
func (s *Store) Forget(ctx context.Context, hub provision.HubID, intermediate trust.Fingerprint) (bool, error) {
	learned, err := s.Learned(ctx, hub)
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(learned, func(der []byte) bool { return trust.FingerprintOfDER(der) == intermediate })
	if i < 0 {
		return false, nil
	}
	p := s.partition(hub)
	switch w, _, err := s.change(ctx, p, scriptForget, []string{p.learned(hub)},
		learned[i], encodeChange(provision.LearnedChanged, hub, provision.DeviceID{})); {
	case err != nil:
		return false, err
	case w == wordGone: // another call was first
		return false, nil
	case w != wordOK:
		return false, unexpected(w)
	}
	return true, nil
}

// CreateHub implements provision.HubRegistry.
func (s *Store) CreateHub(ctx context.Context, h provision.Hub, event provision.Event) (provision.Hub, error) {
	h.Version, h.Declared, h.Deleting = 1, "", false
	e, err := encodeEvent(event)
	if err != nil {
		return provision.Hub{}, err
	}
	if err := s.insert(ctx, h, e); err != nil {
		return provision.Hub{}, err
	}
	return h, nil
}

// insert stores a new hub under its name.
func (s *Store) insert(ctx context.Context, h provision.Hub, event []byte) error {
	rec, err := record.EncodeHub(h)
	if err != nil {
		return err
	}
	// Looked at first, so that an ID that is taken costs no reservation.
	switch _, _, err := s.hub(ctx, h.ID); {
	case err == nil:
		return idTaken(h.ID)
	case !errors.Is(err, provision.ErrNotFound):
		return err
	}
	r, err := s.reserve(ctx, h.Name, h.ID)
	if err != nil {
		return err
	}
	p := s.partition(h.ID)
	w, _, err := s.change(ctx, p, scriptHubCreate, []string{p.hub(h.ID), p.void(h.ID), p.hubs()},
		rec, h.Version, h.Name, r.epoch, h.ID.String(), event, encodeHubChange(h.ID))
	if err != nil {
		return err
	}
	switch w {
	case wordOK:
		return nil
	case wordExists:
		return idTaken(h.ID)
	case wordVoid:
		return nameTaken(h.Name)
	default:
		return unexpected(w)
	}
}

func idTaken(id provision.HubID) error {
	return fmt.Errorf("hub ID %s: %w", id, provision.ErrExists)
}

// ClaimHub implements provision.Store. A hub that is being deleted is
// ErrHubChanged.
func (s *Store) ClaimHub(ctx context.Context, hub provision.Hub) error {
	want := provision.Hub{ID: hub.ID, Name: hub.Name, Declared: hub.Declared}
	for {
		before, rec, err := s.hub(ctx, hub.ID)
		switch {
		case errors.Is(err, provision.ErrNotFound):
			err := s.insert(ctx, want, nil)
			if errors.Is(err, provision.ErrExists) {
				// Another replica may have claimed the same just now.
				if h, herr := s.Hub(ctx, hub.ID); herr == nil && h.Name == want.Name && h.Declared == want.Declared {
					return nil
				}
			}
			return err
		case err != nil:
			return err
		case before.Declared == "":
			return idTaken(hub.ID)
		case before.Deleting:
			return beingDeleted(before)
		case before.Name == want.Name && before.Declared == want.Declared:
			return nil
		}
		want.Unknown, want.Version, want.Revocations = before.Unknown, before.Version, before.Revocations
		w, err := s.replace(ctx, before, want, rec, nil)
		if err != nil || w == wordOK {
			return err
		}
		if err := s.again(ctx); err != nil {
			return err
		}
	}
}

func beingDeleted(h provision.Hub) error {
	return fmt.Errorf("hub %s is being deleted: %w", h.Name, provision.ErrHubChanged)
}

// UpdateHub implements provision.HubRegistry. A declared hub is none of its
// business, so ErrNotFound; one that is being deleted is ErrHubChanged.
func (s *Store) UpdateHub(ctx context.Context, id provision.HubID, change func(*provision.Hub) error, event func(provision.Hub) provision.Event) (provision.Hub, error) {
	for {
		before, rec, err := s.hub(ctx, id)
		if err != nil {
			return provision.Hub{}, err
		}
		if before.Declared != "" {
			return provision.Hub{}, fmt.Errorf("hub %s is declared in %s: %w among the stored", before.Name, before.Declared, provision.ErrNotFound)
		}
		if before.Deleting {
			return provision.Hub{}, beingDeleted(before)
		}
		after := before
		if err := change(&after); err != nil {
			return provision.Hub{}, err
		}
		after.ID, after.Declared, after.Deleting = before.ID, before.Declared, before.Deleting
		after.Version = before.Version + 1
		e, err := encodeEvent(event(after))
		if err != nil {
			return provision.Hub{}, err
		}
		switch w, err := s.replace(ctx, before, after, rec, e); {
		case err != nil:
			return provision.Hub{}, err
		case w == wordOK:
			return after, nil
		}
		if err := s.again(ctx); err != nil {
			return provision.Hub{}, err
		}
	}
}

// flag is what scripts take for a truth.
func flag(v bool) string {
	if v {
		return "1"
	}
	return ""
}

// replace writes an edited hub, with its new name if that changed. It returns
// wordOK, or wordConflict if the stored record is not rec any more.
func (s *Store) replace(ctx context.Context, before, after provision.Hub, rec string, event []byte) (word, error) {
	return s.replaceIf(ctx, before, after, rec, event, false)
}

// replaceIf is replace that returns provision.ErrNotEmpty for a hub that has to
// be empty and has devices.
func (s *Store) replaceIf(ctx context.Context, before, after provision.Hub, rec string, event []byte, empty bool) (word, error) {
	changed, err := record.EncodeHub(after)
	if err != nil {
		return "", err
	}
	var old, reserved reservation
	renamed := before.Name != after.Name
	if renamed {
		if old, err = s.holder(ctx, before.Name); err != nil {
			return "", err
		}
		if reserved, err = s.reserve(ctx, after.Name, after.ID); err != nil {
			return "", err
		}
	}
	deleting := flag(after.Deleting)
	p := s.partition(after.ID)
	w, _, err := s.change(ctx, p, scriptHubUpdate, []string{p.hub(after.ID), p.void(after.ID), p.names(after.ID)},
		rec, changed, after.Version, after.Name, reserved.epoch, deleting, event, encodeHubChange(after.ID), flag(empty))
	if err != nil {
		return "", err
	}
	switch w {
	case wordOK:
		if renamed && old.hub == after.ID {
			return w, s.release(ctx, before.Name, old)
		}
		return w, nil
	case wordConflict:
		return w, nil
	case wordGone:
		return "", provision.ErrNotFound
	case wordVoid:
		return "", nameTaken(after.Name)
	case wordDevices:
		return "", fmt.Errorf("hub %s: %w", after.Name, provision.ErrNotEmpty)
	default:
		return "", unexpected(w)
	}
}

// clearChunk is how many devices one script removes: enough to be quick, few
// enough that no other caller waits long.
const clearChunk = 500

// DeleteHub implements provision.HubRegistry.
func (s *Store) DeleteHub(ctx context.Context, id provision.HubID, event provision.Event) error {
	return s.deleteHub(ctx, id, event, false)
}

// DeleteEmptyHub implements provision.HubRegistry.
func (s *Store) DeleteEmptyHub(ctx context.Context, id provision.HubID, event provision.Event) error {
	return s.deleteHub(ctx, id, event, true)
}

func (s *Store) deleteHub(ctx context.Context, id provision.HubID, event provision.Event, empty bool) error {
	h, err := s.fence(ctx, id, event, empty)
	if err != nil {
		return err
	}
	name, err := s.holder(ctx, h.Name)
	if err != nil {
		return err
	}
	if err := s.clear(ctx, id); err != nil {
		return err
	}
	p := s.partition(id)
	w, _, err := s.change(ctx, p, scriptHubDelete,
		[]string{p.hub(id), p.names(id), p.order(id), p.learned(id), p.hubs(), p.anchors(id), p.revoked(id), p.crls(id), p.claims(id)},
		id.String(), encodeHubChange(id))
	switch {
	case err != nil:
		return err
	case w != wordOK && w != wordHub: // wordHub: another call finished it
		return unexpected(w)
	}
	if name.hub != id {
		return nil
	}
	return s.release(ctx, h.Name, name)
}

// fence marks the hub as being deleted and appends the event, unless it is
// marked already.
func (s *Store) fence(ctx context.Context, id provision.HubID, event provision.Event, empty bool) (provision.Hub, error) {
	e, err := encodeEvent(event)
	if err != nil {
		return provision.Hub{}, err
	}
	for {
		before, rec, err := s.hub(ctx, id)
		if err != nil || before.Deleting {
			return before, err
		}
		after := before
		after.Deleting = true
		if after.Declared == "" {
			after.Version++
		}
		switch w, err := s.replaceIf(ctx, before, after, rec, e, empty); {
		case err != nil:
			return provision.Hub{}, err
		case w == wordOK:
			return after, nil
		}
		if err := s.again(ctx); err != nil {
			return provision.Hub{}, err
		}
	}
}

// clear removes the devices of a fenced hub, some at a time.
func (s *Store) clear(ctx context.Context, id provision.HubID) error {
	p := s.partition(id)
	for {
		names, _, _, err := s.page(ctx, id, provision.DeviceList{Order: provision.ByName, Limit: clearChunk})
		if err != nil || len(names) == 0 {
			return err
		}
		keys := []string{p.hub(id), p.names(id), p.order(id)}
		args := make([]any, len(names))
		for i, name := range names {
			keys = append(keys, p.device(provision.DeviceIDOf(id, name)))
			args[i] = name
		}
		w, _, err := s.change(ctx, p, scriptHubClear, keys, args...)
		switch {
		case err != nil:
			return err
		case w == wordHub: // another call finished it
			return nil
		case w != wordOK:
			return unexpected(w)
		}
	}
}
