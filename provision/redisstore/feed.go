package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/hubgate/hubgate/provision"
)

const (
	// feedBlock is how long a reader waits for changes before it proves anew
	// that there were none. A proof is up to two waits old when the next one
	// comes, which has to leave room within the two seconds that it counts.
	feedBlock = 300 * time.Millisecond
	// feedTimeout is when a server that does not answer counts as cut off.
	feedTimeout = time.Second
	// feedBatch bounds the changes read at once from a partition.
	feedBatch = 1000
	// backoffLimit bounds the pause before a reader connects again.
	backoffLimit = 500 * time.Millisecond
)

// Watch implements provision.Store.
//
// A round asks for the heads of the partitions (store ID, number and link of
// the last change) and then for what came after the position, in one request.
// The server answers in order, so changes up to a head have all been read when
// the answer is complete: that is the proof that makes a partition fresh, as of
// the moment before the request was sent.
//
// A position that its head contradicts, or a change that does not name the one
// before it, means that entries are missing or that the server lost some (a
// fail-over to a replica that lagged): the partition is lost and goes on from
// there.
func (s *Store) Watch(ctx context.Context, sink provision.Sink) error {
	var wg sync.WaitGroup
	follow := func(parts ...partition) {
		r := &feedReader{store: s, sink: sink, positions: make([]position, len(parts))}
		for i, p := range parts {
			r.positions[i].partition = p
		}
		wg.Go(func() { r.follow(ctx) })
	}
	if s.clustered {
		// A Cluster refuses one XREAD on several slots, even on one node.
		for _, p := range s.parts {
			follow(p)
		}
	} else {
		follow(s.parts...)
	}
	wg.Wait()
	return ctx.Err()
}

// position is how far a partition has been read.
type position struct {
	partition partition
	joined    bool // position is in step with the pinned store
	foreign   bool // the partition carried another store ID since it was joined
	seq       uint64
	link      string
}

// head is what a partition says of itself.
type head struct {
	id   string
	seq  uint64
	link string
}

// feedReader follows some partitions over one connection.
type feedReader struct {
	store     *Store
	sink      provision.Sink
	positions []position
}

func (r *feedReader) follow(ctx context.Context) {
	var backoff time.Duration
	for ctx.Err() == nil {
		err := r.round(ctx)
		if ctx.Err() != nil {
			break
		}
		if err == nil {
			if backoff > 0 {
				backoff = 0
				r.back(ctx)
			}
			continue
		}
		if backoff == 0 {
			r.cut(ctx, err)
		}
		backoff = min(max(2*backoff, 20*time.Millisecond), backoffLimit)
		_ = pause(ctx, backoff) // the loop looks at the context
	}
	if backoff > 0 {
		r.store.cutReaders.Add(-1)
	}
}

// cut and back log once for all readers of the store: they share its fate.
func (r *feedReader) cut(ctx context.Context, err error) {
	if r.store.cutReaders.Add(1) == 1 {
		r.store.log.WarnContext(ctx, "change feed is cut", "error", err)
	}
}

func (r *feedReader) back(ctx context.Context) {
	if r.store.cutReaders.Add(-1) == 0 {
		r.store.log.InfoContext(ctx, "change feed is back")
	}
}

func (r *feedReader) round(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, feedTimeout+feedBlock/2)
	defer cancel()
	at := r.store.now()
	pipe := r.store.feed.Pipeline()
	replies := make([]*redis.SliceCmd, len(r.positions))
	var keys, ids []string
	for i, p := range r.positions {
		replies[i] = pipe.HMGet(ctx, p.partition.state(), "id", "chg", "link")
		if p.joined {
			keys = append(keys, p.partition.changes())
			ids = append(ids, entryID(p.seq))
		}
	}
	var read *redis.XStreamSliceCmd
	if len(keys) > 0 {
		read = pipe.XRead(ctx, &redis.XReadArgs{Streams: append(keys, ids...), Count: feedBatch, Block: feedBlock})
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	entries := make(map[string][]redis.XMessage)
	if read != nil {
		for _, stream := range read.Val() {
			entries[stream.Stream] = stream.Messages
		}
	}
	foreign := 0
	for i := range r.positions {
		h, err := readHead(replies[i].Val())
		if err != nil {
			return err
		}
		p := &r.positions[i]
		r.advance(p, h, entries[p.partition.changes()], at)
		if p.foreign {
			foreign++
		}
	}
	if foreign == len(r.positions) {
		return pause(ctx, feedBlock) // nothing to block on
	}
	return nil
}

func readHead(fields []any) (head, error) {
	if len(fields) != 3 {
		return head{}, fmt.Errorf("partition state has %d fields", len(fields))
	}
	id, _ := fields[0].(string)
	seq, _ := fields[1].(string)
	link, _ := fields[2].(string)
	if seq == "" { // no change yet
		return head{id: id}, nil
	}
	n, err := strconv.ParseUint(seq, 10, 64)
	if err != nil {
		return head{}, fmt.Errorf("partition state: %w", err)
	}
	return head{id: id, seq: n, link: link}, nil
}

// advance takes one answer about one partition.
func (r *feedReader) advance(p *position, h head, entries []redis.XMessage, at time.Time) {
	number := p.partition.number
	if foreign := h.id != r.store.id; foreign {
		r.store.foreign[number].Store(true)
		if !p.foreign {
			r.sink.Lost(number)
		}
		p.foreign, p.joined = true, false
		return
	}
	r.store.foreign[number].Store(false)
	if !p.joined {
		if p.foreign { // what was read of the other store is void as well
			r.sink.Lost(number)
		}
		p.foreign, p.joined, p.seq, p.link = false, true, h.seq, h.link
		r.sink.Fresh(number, at)
		return
	}
	lost := false
	for _, entry := range entries {
		c, next, err := readEntry(entry)
		if err != nil || next.seq != p.seq+1 || next.before != p.link {
			lost = true
		}
		if err == nil {
			r.sink.Changed(number, c)
		}
		if next.seq > 0 {
			p.seq, p.link = next.seq, next.link
		}
	}
	// The head is older than the entries: it can only be behind them.
	if len(entries) == 0 && (h.seq != p.seq || h.link != p.link) {
		lost = true
		p.seq, p.link = h.seq, h.link
	}
	if lost {
		r.sink.Lost(number)
	}
	if p.seq >= h.seq {
		r.sink.Fresh(number, at)
	}
}

// entry is a change's place in the feed.
type entry struct {
	seq          uint64
	link, before string
}

func readEntry(m redis.XMessage) (provision.Change, entry, error) {
	seq, err := entrySeq(m.ID)
	if err != nil {
		return provision.Change{}, entry{}, err
	}
	e := entry{seq: seq}
	e.link, _ = m.Values["l"].(string)
	e.before, _ = m.Values["p"].(string)
	text, _ := m.Values["c"].(string)
	c, err := decodeChange(text)
	return c, e, err
}

// encodeChange returns the stored form of a change: its kind, the hub, and the
// device if it is about one.
func encodeChange(kind provision.ChangeKind, hub provision.HubID, device provision.DeviceID) []byte {
	b := append([]byte{byte(kind)}, hub.UUID[:]...)
	if !device.IsZero() {
		b = append(b, device.UUID[:]...)
	}
	return b
}

func encodeHubChange(hub provision.HubID) []byte {
	return encodeChange(provision.HubChanged, hub, provision.DeviceID{})
}

func decodeChange(s string) (provision.Change, error) {
	const short, long = 1 + len(uuid.UUID{}), 1 + 2*len(uuid.UUID{})
	if len(s) != short && len(s) != long {
		return provision.Change{}, fmt.Errorf("change of %d bytes", len(s))
	}
	c := provision.Change{Kind: provision.ChangeKind(s[0])}
	copy(c.Hub.UUID[:], s[1:short])
	copy(c.Device.UUID[:], s[short:])
	if known := c.Kind >= provision.HubChanged && c.Kind <= provision.RevocationsChanged; !known {
		return provision.Change{}, fmt.Errorf("change of unknown kind %d", c.Kind)
	}
	return c, nil
}
