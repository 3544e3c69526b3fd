package redisstore

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/record"
	"github.com/hubgate/hubgate/provision/redisstore/redistest"
)

func openInternal(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{URL: redistest.Start(t).URL(), Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// createLate sends the script that stores a hub, the second half of CreateHub.
func createLate(t *testing.T, s *Store, h provision.Hub, r reservation) word {
	t.Helper()
	rec, err := record.EncodeHub(h)
	if err != nil {
		t.Fatal(err)
	}
	p := s.partition(h.ID)
	w, _, err := s.change(t.Context(), p, scriptHubCreate, []string{p.hub(h.ID), p.void(h.ID), p.hubs()},
		rec, h.Version, h.Name, r.epoch, h.ID.String(), "", encodeHubChange(h.ID))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestNameLeftBehind: a process that ends between reserving a name and storing
// its hub holds nobody up, and if it was only slow it is too late.
func TestNameLeftBehind(t *testing.T) {
	t.Parallel()
	s, ctx := openInternal(t), t.Context()
	dead := provision.Hub{ID: provision.NewHubID(), Name: "fleet", Version: 1}
	r, err := s.reserve(ctx, dead.Name, dead.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.HubByName(ctx, "fleet"); !errors.Is(err, provision.ErrNotFound) {
		t.Errorf("a name that is only reserved: %v", err)
	}
	heir, err := s.CreateHub(ctx, provision.Hub{ID: provision.NewHubID(), Name: "fleet"}, provision.Event{})
	if err != nil {
		t.Fatal(err)
	}
	if w := createLate(t, s, dead, r); w != wordVoid {
		t.Errorf("the slow process stored its hub: %s", w)
	}
	got, err := s.HubByName(ctx, "fleet")
	if err != nil || got.ID != heir.ID {
		t.Errorf("the name is %s's, %v, want %s's", got.ID, err, heir.ID)
	}
	// The same hub may try again, under a name that is free.
	dead.Name = "other"
	if _, err := s.CreateHub(ctx, dead, provision.Event{}); err != nil {
		t.Errorf("the slow process tries again: %v", err)
	}
}

// TestNameLeftByDeletion: a deletion that ended before it freed the name.
func TestNameLeftByDeletion(t *testing.T) {
	t.Parallel()
	s, ctx := openInternal(t), t.Context()
	hub, err := s.CreateHub(ctx, provision.Hub{ID: provision.NewHubID(), Name: "fleet"}, provision.Event{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.holder(ctx, "fleet")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteHub(ctx, hub.ID, provision.Event{}); err != nil {
		t.Fatal(err)
	}
	if err := s.client.Set(ctx, keyName("fleet"), r.text, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateHub(ctx, provision.Hub{ID: provision.NewHubID(), Name: "fleet"}, provision.Event{}); err != nil {
		t.Errorf("hub under the name: %v", err)
	}
}

// TestReplyLost: a change whose reply was lost is made once.
func TestReplyLost(t *testing.T) {
	t.Parallel()
	s, ctx := openInternal(t), t.Context()
	id := provision.NewHubID()
	p := s.partition(id)
	keys := []string{p.state(), p.outbox(), p.changes(), p.hub(id), p.void(id), p.hubs()}
	args := []any{s.id, newOp(), s.retention, "record", 1, "fleet", 1, id.String(), "event", "change"}
	for _, want := range []word{wordOK, wordDone, wordDone} {
		if w, _, err := s.run(ctx, scriptHubCreate, keys, args); err != nil || w != want {
			t.Errorf("%s, %v, want %s", w, err, want)
		}
	}
	n, err := s.client.XLen(ctx, p.outbox()).Result()
	if err != nil || n != 1 {
		t.Errorf("%d events, %v, want 1", n, err)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	s := &Store{timeout: time.Second}
	for text, outage := range map[string]bool{
		"LOADING Redis is loading the dataset in memory": true, "CLUSTERDOWN The cluster is down": true,
		"READONLY You can't write against a read only replica.": true, "OOM command not allowed": true,
		"MISCONF Errors writing to the AOF file": true, "NOAUTH Authentication required.": true,
		"ERR max number of clients reached": true, "MASTERDOWN Link with MASTER is down": true,
		"ERR unknown command": false, "WRONGTYPE Operation against a key": false,
	} {
		err := s.call(t.Context(), func(context.Context) error { return replyError(text) })
		if errors.Is(err, provision.ErrUnavailable) != outage {
			t.Errorf("%s: %v", text, err)
		}
		if r := redis.Error(nil); errors.As(err, &r) {
			t.Errorf("%s: the client's error type leaks", text)
		}
	}
}

// replyError is an error that the server replied with.
type replyError string

func (e replyError) Error() string { return string(e) }
func (replyError) RedisError()     {}
