package boltstore

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/record"
)

// sweepInterval is how often dead sessions are forgotten, at most. They are
// looked for when something is put, so nothing gathers in between.
const sweepInterval = time.Minute

// sessions are the live connections. They are in memory only: the process owns
// the file, so no other needs them, and Envoys tell again after a reconnect.
//
// The lock is held while the device of a session is read and the session is
// recorded. Whoever changed a device looks for its sessions after the commit:
// it comes before the lock was taken, and the change is read, or after, and the
// session is found.
type sessions struct {
	now func() time.Time

	mu      sync.Mutex
	leases  map[provision.EnvoyID]time.Time // until when
	devices map[provision.DeviceID]map[string]provision.Session
	hubs    map[provision.HubID][]sessionEntry // in order of their IDs
	swept   time.Time                          // when the dead were last removed
}

// sessionEntry says where a session is.
type sessionEntry struct {
	id     string
	device provision.DeviceID
}

func (e sessionEntry) compare(other sessionEntry) int {
	return cmp.Or(strings.Compare(e.id, other.id), strings.Compare(string(e.device.UUID[:]), string(other.device.UUID[:])))
}

func newSessions(now func() time.Time) *sessions {
	return &sessions{
		now:     now,
		leases:  map[provision.EnvoyID]time.Time{},
		devices: map[provision.DeviceID]map[string]provision.Session{},
		hubs:    map[provision.HubID][]sessionEntry{},
		swept:   now(),
	}
}

// PutSession records a session and reads its device.
func (s *Store) PutSession(ctx context.Context, session provision.Session) (device provision.Device, alone bool, err error) {
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	if device, err = s.deviceOf(ctx, session); err != nil {
		return provision.Device{}, false, err
	}
	s.sessions.sweep()
	return device, s.sessions.put(session), nil
}

// ClaimSession records a session unless its device has another live one of TCP.
func (s *Store) ClaimSession(ctx context.Context, session provision.Session) (*provision.Session, error) {
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	if _, err := s.deviceOf(ctx, session); err != nil {
		return nil, err
	}
	s.sessions.sweep()
	live := s.sessions.ofDevice(session.Hub, session.Device)
	for _, other := range slices.Backward(live) {
		if other.Protocol == provision.TCP && other.ID != session.ID {
			return &other, nil
		}
	}
	s.sessions.put(session)
	return nil, nil
}

// deviceOf reads the device of a session that is to be recorded.
func (s *Store) deviceOf(ctx context.Context, session provision.Session) (device provision.Device, err error) {
	if _, err := record.CheckSession(session); err != nil {
		return provision.Device{}, err
	}
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		device, err = readDevice(tx, session.Hub, session.DeviceName)
		return err
	})
	return device, err
}

// RemoveSession removes a session.
func (s *Store) RemoveSession(ctx context.Context, session provision.Session) error {
	if _, err := record.ParseSessionID(session.ID); err != nil {
		return err
	}
	if err := s.inUse(ctx); err != nil {
		return err
	}
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	s.sessions.remove(session.Hub, sessionEntry{session.ID, session.Device})
	return nil
}

// DeviceSessions returns the live sessions of a device, oldest first.
func (s *Store) DeviceSessions(ctx context.Context, hub provision.HubID, device provision.DeviceID) ([]provision.Session, error) {
	if err := s.inUse(ctx); err != nil {
		return nil, err
	}
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	return s.sessions.ofDevice(hub, device), nil
}

// HubSessions returns a page of the live sessions of a hub. The cursor is the
// last session's ID.
func (s *Store) HubSessions(ctx context.Context, hub provision.HubID, cursor string, limit int) ([]provision.Session, string, error) {
	if limit < 1 {
		return nil, "", fmt.Errorf("page of %d sessions", limit)
	}
	if cursor != "" {
		if _, err := record.ParseSessionID(cursor); err != nil {
			return nil, "", fmt.Errorf("cursor %q is not of this list", cursor)
		}
	}
	if err := s.inUse(ctx); err != nil {
		return nil, "", err
	}
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	now := s.sessions.now()
	entries := s.sessions.hubs[hub]
	from, _ := slices.BinarySearchFunc(entries, cursor, func(e sessionEntry, cursor string) int {
		if e.id <= cursor {
			return -1
		}
		return 1
	})
	var page []provision.Session
	for _, e := range entries[from:] {
		session := s.sessions.devices[e.device][e.id]
		if !s.sessions.live(session, now) {
			continue
		}
		if len(page) == limit {
			return page, page[limit-1].ID, nil
		}
		page = append(page, session)
	}
	return page, "", nil
}

// EnvoySessions returns the sessions of an Envoy process.
func (s *Store) EnvoySessions(ctx context.Context, envoy provision.EnvoyID) ([]provision.Session, error) {
	if err := s.inUse(ctx); err != nil {
		return nil, err
	}
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	now := s.sessions.now()
	var kept []provision.Session
	for _, ofDevice := range s.sessions.devices {
		for _, session := range ofDevice {
			if session.Envoy == envoy && s.sessions.kept(session, now) {
				kept = append(kept, session)
			}
		}
	}
	return kept, nil
}

// AnnounceSessions tells those who watch. Nothing is written.
func (s *Store) AnnounceSessions(ctx context.Context, hub provision.HubID, device provision.DeviceID) error {
	if err := s.inUse(ctx); err != nil {
		return err
	}
	s.feed.tell(change{hub.Partition(s.meta.partitions),
		provision.Change{Kind: provision.SessionsChanged, Hub: hub, Device: device}})
	return nil
}

// RenewEnvoy renews the lease of an Envoy process.
func (s *Store) RenewEnvoy(ctx context.Context, envoy provision.EnvoyID, lease time.Duration) error {
	if err := s.inUse(ctx); err != nil {
		return err
	}
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	s.sessions.leases[envoy] = s.sessions.now().Add(lease)
	s.sessions.sweep()
	return nil
}

// inUse reports a context that has ended, or a store that is closed.
func (s *Store) inUse(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", provision.ErrUnavailable, err)
	}
	select {
	case <-s.closing:
		return errStopped
	default:
		return nil
	}
}

// ofDevice returns the live sessions of a device, oldest first.
func (s *sessions) ofDevice(hub provision.HubID, device provision.DeviceID) []provision.Session {
	now := s.now()
	var live []provision.Session
	for _, session := range s.devices[device] {
		if session.Hub == hub && s.live(session, now) {
			live = append(live, session)
		}
	}
	slices.SortFunc(live, func(a, b provision.Session) int {
		return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.ID, b.ID))
	})
	return live
}

func (s *sessions) live(session provision.Session, now time.Time) bool {
	return session.Live(now, now.Before(s.leases[session.Envoy]))
}

func (s *sessions) kept(session provision.Session, now time.Time) bool {
	until, known := s.leases[session.Envoy]
	return session.Kept(now, known && now.Before(until.Add(session.Envoy.KeptFor())))
}

// put records the session and reports whether it is its device's only one. An
// unconfirmed one replaces nothing.
func (s *sessions) put(session provision.Session) (alone bool) {
	ofDevice := s.devices[session.Device]
	if ofDevice == nil {
		ofDevice = map[string]provision.Session{}
		s.devices[session.Device] = ofDevice
	}
	_, exists := ofDevice[session.ID]
	if session.Confirmed || !exists {
		ofDevice[session.ID] = session
	}
	if !exists {
		entries, e := s.hubs[session.Hub], sessionEntry{session.ID, session.Device}
		i, _ := slices.BinarySearchFunc(entries, e, sessionEntry.compare)
		s.hubs[session.Hub] = slices.Insert(entries, i, e)
	}
	return len(ofDevice) == 1
}

func (s *sessions) remove(hub provision.HubID, e sessionEntry) {
	entries := s.hubs[hub]
	i, found := slices.BinarySearchFunc(entries, e, sessionEntry.compare)
	if !found {
		return
	}
	if s.hubs[hub] = slices.Delete(entries, i, i+1); len(entries) == 1 {
		delete(s.hubs, hub)
	}
	if delete(s.devices[e.device], e.id); len(s.devices[e.device]) == 0 {
		delete(s.devices, e.device)
	}
}

// sweep forgets sessions that need not be kept, and leases that kept them. It
// looks at all of them, so it does so now and then.
func (s *sessions) sweep() {
	now := s.now()
	if now.Sub(s.swept) < sweepInterval {
		return
	}
	s.swept = now
	for hub, entries := range s.hubs {
		entries = slices.DeleteFunc(entries, func(e sessionEntry) bool {
			if s.kept(s.devices[e.device][e.id], now) {
				return false
			}
			if delete(s.devices[e.device], e.id); len(s.devices[e.device]) == 0 {
				delete(s.devices, e.device)
			}
			return true
		})
		if s.hubs[hub] = entries; len(entries) == 0 {
			delete(s.hubs, hub)
		}
	}
	maps.DeleteFunc(s.leases, func(e provision.EnvoyID, until time.Time) bool {
		return !now.Before(until.Add(e.KeptFor()))
	})
}
