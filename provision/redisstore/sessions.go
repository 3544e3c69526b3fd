package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/record"
)

const (
	// sessionTTL is how long keys of sessions stay after the last put. A
	// renewed lease does not prolong it: provision.SessionRefresh does.
	sessionTTL = 2 * provision.SessionRefresh
	// sweepEvery is how many sessions of one device there are on record when
	// those of them that are dead are removed, though nobody asked for them.
	sweepEvery = 32
	// sessionChunk bounds the sessions that are read at once.
	sessionChunk = 1000
	// reapChunk bounds the sessions that one script removes.
	reapChunk = 100
	// hubRounds bounds how often a page of a hub's sessions is filled up, as
	// there may be nothing but dead ones.
	hubRounds = 8
	// claimRounds bounds how often a claim looks anew at a device's sessions,
	// because they changed while it did.
	claimRounds = 8
	// putOp is how many bytes of a stored session come before its record.
	putOp = 8
)

var _ provision.Sessions = (*Store)(nil)

// PutSession implements provision.Sessions. It is one round trip.
func (s *Store) PutSession(ctx context.Context, session provision.Session) (provision.Device, bool, error) {
	w, value, err := s.putSession(ctx, scriptSessionPut, session)
	switch {
	case err != nil:
		return provision.Device{}, false, err
	case w != wordOK:
		return provision.Device{}, false, unexpected(w)
	}
	number, stored, _ := strings.Cut(value, " ")
	n, err := strconv.Atoi(number)
	if err != nil {
		return provision.Device{}, false, fmt.Errorf("a script counted %q sessions", number)
	}
	d, err := record.DecodeDevice(session.Hub, []byte(stored))
	if err != nil {
		return provision.Device{}, false, err
	}
	if n%sweepEvery == 0 {
		if _, err := s.DeviceSessions(ctx, session.Hub, session.Device); err != nil {
			s.log.WarnContext(ctx, "dead sessions of a device are not removed", "error", err)
		}
	}
	return d, n == 1, nil
}

// ClaimSession implements provision.Sessions. It is one round trip where the
// device has no session on record. Leases are in another slot, so no script can
// tell whether a session lives: what is on record is looked at first, and the
// script goes on only if there is nothing else than what was found not to count.
func (s *Store) ClaimSession(ctx context.Context, session provision.Session) (*provision.Session, error) {
	var passed []any // of each that does not count: its ID, and what is on record
	for range claimRounds {
		w, _, err := s.putSession(ctx, scriptSessionClaim, session, passed...)
		switch {
		case err != nil:
			return nil, err
		case w == wordOK:
			return nil, nil
		case w != wordTaken:
			return nil, unexpected(w)
		}
		recorded, err := s.recordedSessions(ctx, session.Hub, session.Device)
		if err != nil {
			return nil, err
		}
		live, err := s.liveSessions(ctx, recorded, session.Device)
		if err != nil {
			return nil, err
		}
		for _, other := range slices.Backward(live) {
			if other.Protocol == provision.TCP && other.ID != session.ID {
				return &other, nil
			}
		}
		passed = nil
		for _, r := range recorded {
			passed = append(passed, string(r.key.id.UUID[:]), r.value)
		}
	}
	return nil, fmt.Errorf("%w: the sessions of device %q changed %d times during a claim", provision.ErrUnavailable, session.DeviceName, claimRounds)
}

// putSession runs a script that records a session.
func (s *Store) putSession(ctx context.Context, script *redis.Script, session provision.Session, more ...any) (word, string, error) {
	id, err := record.CheckSession(session)
	if err != nil {
		return "", "", err
	}
	rec, err := record.EncodeSession(session)
	if err != nil {
		return "", "", err
	}
	confirmed := ""
	if session.Confirmed {
		confirmed = "1"
	}
	var hub []byte
	if session.Envoy.HasLibrary() {
		hub = session.Hub.UUID[:]
	}
	p := s.partition(session.Hub)
	args := []any{sessionKey{id, session.Device, session.Hub}.ofHub(), hub, rec, confirmed, int(sessionTTL / time.Second), p.sessionsPrefix()}
	w, value, err := s.change(ctx, p, script,
		[]string{p.device(session.Device), p.sessions(session.Device), p.hubSessions(session.Hub), p.envoySessions(session.Envoy)},
		append(args, more...)...)
	if err == nil && w == wordGone {
		err = fmt.Errorf("device %q: %w", session.DeviceName, provision.ErrNotFound)
	}
	return w, value, err
}

// RemoveSession implements provision.Sessions. It is one round trip.
func (s *Store) RemoveSession(ctx context.Context, session provision.Session) error {
	id, err := record.ParseSessionID(session.ID)
	if err != nil {
		return err
	}
	p := s.partition(session.Hub)
	w, _, err := s.change(ctx, p, scriptSessionRemove,
		[]string{p.sessions(session.Device), p.hubSessions(session.Hub), p.envoySessions(session.Envoy)},
		sessionKey{id, session.Device, session.Hub}.ofHub(), session.Hub.UUID[:])
	if err == nil && w != wordOK {
		err = unexpected(w)
	}
	return err
}

// AnnounceSessions implements provision.Sessions. It is one round trip.
func (s *Store) AnnounceSessions(ctx context.Context, hub provision.HubID, device provision.DeviceID) error {
	w, _, err := s.change(ctx, s.partition(hub), scriptSessionAnnounce, nil, encodeChange(provision.SessionsChanged, hub, device))
	if err == nil && w != wordOK {
		err = unexpected(w)
	}
	return err
}

// DeviceSessions implements provision.Sessions. It is one round trip, and one
// more if an Envoy's lease was not looked at in the last second.
func (s *Store) DeviceSessions(ctx context.Context, hub provision.HubID, device provision.DeviceID) ([]provision.Session, error) {
	recorded, err := s.recordedSessions(ctx, hub, device)
	if err != nil {
		return nil, err
	}
	return s.liveSessions(ctx, recorded, device)
}

// liveSessions returns those that are live, oldest first. The key they were read
// from has no hub in it: some may be of another hub in the same partition.
func (s *Store) liveSessions(ctx context.Context, recorded []storedSession, device provision.DeviceID) ([]provision.Session, error) {
	var own []storedSession
	for _, r := range recorded {
		if r.session.Device == device {
			own = append(own, r)
		}
	}
	live, _, err := s.sift(ctx, own)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(live, func(a, b provision.Session) int {
		return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.ID, b.ID))
	})
	return live, nil
}

// recordedSessions reads what is on record under a device, live or not.
func (s *Store) recordedSessions(ctx context.Context, hub provision.HubID, device provision.DeviceID) ([]storedSession, error) {
	var values map[string]string
	err := s.call(ctx, func(ctx context.Context) (err error) {
		values, err = s.client.HGetAll(ctx, s.partition(hub).sessions(device)).Result()
		return err
	})
	if err != nil {
		return nil, err
	}
	all := make([]storedSession, 0, len(values))
	for field, value := range values {
		if len(field) != 16 {
			return nil, fmt.Errorf("session: %w: ID of %d bytes", record.ErrCorrupt, len(field))
		}
		stored, err := readSession(sessionKey{recordID(field), device, hub}, value)
		if err != nil {
			return nil, err
		}
		all = append(all, stored)
	}
	return all, nil
}

// HubSessions implements provision.Sessions. The cursor is the ID of the last
// session looked at. It is two round trips, and at times one for leases; all
// that again while the page has room for what was dead.
func (s *Store) HubSessions(ctx context.Context, hub provision.HubID, cursor string, limit int) ([]provision.Session, string, error) {
	if limit < 1 {
		return nil, "", fmt.Errorf("limit %d is less than 1", limit)
	}
	args := redis.ZRangeArgs{Key: s.partition(hub).hubSessions(hub), ByLex: true, Start: "-", Stop: "+"}
	if cursor != "" {
		id, err := record.ParseSessionID(cursor)
		if err != nil {
			return nil, "", errors.New("cursor is none of this list")
		}
		args.Start = afterSession(id)
	}
	var page []provision.Session
	for range hubRounds {
		room := min(limit-len(page), sessionChunk)
		args.Count = int64(room) + 1 // one more, to know whether there is a next
		var members []string
		err := s.call(ctx, func(ctx context.Context) (err error) {
			members, err = s.client.ZRangeArgs(ctx, args).Result()
			return err
		})
		if err != nil {
			return nil, "", err
		}
		more := len(members) > room
		keys := make([]sessionKey, min(room, len(members)))
		for i := range keys {
			if keys[i], err = parseSessionKey(members[i] + string(hub.UUID[:])); err != nil {
				return nil, "", err
			}
		}
		found, err := s.readSessions(ctx, keys)
		if err != nil {
			return nil, "", err
		}
		live, _, err := s.sift(ctx, found)
		if err != nil {
			return nil, "", err
		}
		page = append(page, live...)
		if !more {
			return page, "", nil
		}
		last := keys[len(keys)-1].id
		cursor, args.Start = last.String(), afterSession(last)
		if len(page) == limit {
			break
		}
	}
	return page, cursor, nil
}

// afterSession is where the index goes on after a session.
func afterSession(id record.SessionID) string {
	return "(" + string(id.UUID[:]) + strings.Repeat("\xff", len(provision.DeviceID{}.UUID))
}

// EnvoySessions implements provision.Sessions. It asks all partitions in one
// round trip, and reads what they name in another for every thousand.
func (s *Store) EnvoySessions(ctx context.Context, envoy provision.EnvoyID) ([]provision.Session, error) {
	replies := make([]*redis.StringSliceCmd, len(s.parts))
	err := s.call(ctx, func(ctx context.Context) error {
		pipe := s.client.Pipeline()
		for i, p := range s.parts {
			replies[i] = pipe.SMembers(ctx, p.envoySessions(envoy))
		}
		_, err := pipe.Exec(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	var keys []sessionKey
	for _, reply := range replies {
		for _, member := range reply.Val() {
			key, err := parseSessionKey(member)
			if err != nil {
				return nil, err
			}
			keys = append(keys, key)
		}
	}
	var all []storedSession
	for chunk := range slices.Chunk(keys, sessionChunk) {
		found, err := s.readSessions(ctx, chunk)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			if f.session.ID == "" {
				f.session.Envoy = envoy
			}
			if f.session.Envoy == envoy {
				all = append(all, f)
			}
		}
	}
	_, kept, err := s.sift(ctx, all)
	return kept, err
}

// storedSession is a session as it was found. Of one that is gone though an
// index names it, value is "" and the session has no ID, and no Envoy unless the
// index is its.
type storedSession struct {
	key     sessionKey
	value   string
	session provision.Session
}

// readSessions reads sessions that an index names, in one round trip.
func (s *Store) readSessions(ctx context.Context, keys []sessionKey) ([]storedSession, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	replies := make([]*redis.StringCmd, len(keys))
	err := s.call(ctx, func(ctx context.Context) error {
		pipe := s.client.Pipeline()
		for i, k := range keys {
			replies[i] = pipe.HGet(ctx, s.partition(k.hub).sessions(k.device), string(k.id.UUID[:]))
		}
		if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	found := make([]storedSession, len(keys))
	for i, reply := range replies {
		if errors.Is(reply.Err(), redis.Nil) {
			found[i].key = keys[i]
			continue
		}
		if found[i], err = readSession(keys[i], reply.Val()); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func readSession(key sessionKey, value string) (storedSession, error) {
	if len(value) < putOp {
		return storedSession{}, fmt.Errorf("session: %w: %d bytes", record.ErrCorrupt, len(value))
	}
	session, err := record.DecodeSession(key.hub, key.id, []byte(value[putOp:]))
	return storedSession{key, value, session}, err
}

// sift returns those that are live and those that are kept, in the order given,
// and removes the others. Leases are read after the sessions: who renewed its
// lease and then put a session is never found dead with it.
func (s *Store) sift(ctx context.Context, all []storedSession) (live, kept []provision.Session, err error) {
	envoys := map[provision.EnvoyID]lease{}
	for _, f := range all {
		if f.session.Confirmed {
			envoys[f.session.Envoy] = lease{}
		}
	}
	if err := s.readLeases(ctx, envoys); err != nil {
		return nil, nil, err
	}
	now := s.now()
	var dead []storedSession
	for _, f := range all {
		l := envoys[f.session.Envoy]
		switch {
		case f.session.ID == "":
			dead = append(dead, f)
			continue
		case f.session.Live(now, l.holds):
			live = append(live, f.session)
		case !f.session.Kept(now, l.known):
			dead = append(dead, f)
			continue
		}
		kept = append(kept, f.session)
	}
	if len(dead) > 0 {
		if err := s.reap(ctx, dead); err != nil {
			// What was read is right all the same.
			s.log.WarnContext(ctx, "dead sessions are not removed", "error", err)
		}
	}
	return live, kept, nil
}

// reap removes dead sessions, some at a time: who looks next goes on.
func (s *Store) reap(ctx context.Context, dead []storedSession) error {
	p := s.partition(dead[0].key.hub)
	var (
		keys []string
		args []any
	)
	for _, f := range dead {
		if s.partition(f.key.hub) != p || len(args) == 2*reapChunk {
			continue
		}
		keys = append(keys, p.sessions(f.key.device), p.hubSessions(f.key.hub), p.envoySessions(f.session.Envoy))
		args = append(args, f.key.ofEnvoy(), f.value)
	}
	w, _, err := s.change(ctx, p, scriptSessionReap, keys, args...)
	if err == nil && w != wordOK {
		err = unexpected(w)
	}
	return err
}

// sessionKey is what names a session in the indexes.
type sessionKey struct {
	id     record.SessionID
	device provision.DeviceID
	hub    provision.HubID
}

func (k sessionKey) ofHub() string   { return string(k.id.UUID[:]) + string(k.device.UUID[:]) }
func (k sessionKey) ofEnvoy() string { return k.ofHub() + string(k.hub.UUID[:]) }

func parseSessionKey(member string) (k sessionKey, err error) {
	if len(member) != 3*16 {
		return k, fmt.Errorf("session: %w: index entry of %d bytes", record.ErrCorrupt, len(member))
	}
	copy(k.id.UUID[:], member)
	copy(k.device.UUID[:], member[16:])
	copy(k.hub.UUID[:], member[32:])
	return k, nil
}

func recordID(field string) (id record.SessionID) {
	copy(id.UUID[:], field)
	return id
}
