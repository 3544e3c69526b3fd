package redisstore

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/provision/record"
)

// maxPut bounds how many devices one script takes, and so how long it keeps
// others waiting.
const maxPut = 256

// PutDevices implements provision.DeviceRegistry. It is two round trips for up to
// maxPut devices, and two more for those that others edited in between.
func (s *Store) PutDevices(ctx context.Context, hub provision.HubID, puts []provision.Put) ([]provision.PutResult, error) {
	results := make([]provision.PutResult, len(puts))
	for begin := 0; begin < len(puts); begin += maxPut {
		var left []int // of puts
		for i := begin; i < min(begin+maxPut, len(puts)); i++ {
			left = append(left, i)
		}
		for first := true; len(left) > 0; first = false {
			if !first {
				if err := s.again(ctx); err != nil {
					return nil, err
				}
			}
			var err error
			if left, err = s.putDevices(ctx, hub, puts, left, results); err != nil {
				return nil, err
			}
		}
	}
	return results, nil
}

// putDevices puts those of the given indexes and returns the ones to do again.
func (s *Store) putDevices(ctx context.Context, hub provision.HubID, puts []provision.Put, given []int, results []provision.PutResult) ([]int, error) {
	p := s.partition(hub)
	records := make([]*redis.StringCmd, len(given))
	err := s.pinned(ctx, p, func(ctx context.Context, pipe redis.Pipeliner) {
		for i, at := range given {
			records[i] = pipe.Get(ctx, p.device(provision.DeviceIDOf(hub, puts[at].Name)))
		}
	})
	if err != nil {
		return nil, err
	}
	keys := []string{p.hub(hub), p.names(hub), p.order(hub), p.anchors(hub)}
	var args []any
	var sent []int
	for i, at := range given {
		row, key, result := s.mergePut(hub, puts[at], records[i].Val())
		results[at] = result
		if row != nil {
			keys, args, sent = append(keys, key), append(args, row...), append(sent, at)
		}
	}
	if len(sent) == 0 {
		return nil, nil
	}
	w, outcome, err := s.change(ctx, p, scriptDevicePut, keys, args...)
	switch {
	case err != nil:
		return nil, err
	case w == wordHub:
		return nil, provision.ErrHubChanged
	case w != wordOK:
		return nil, unexpected(w)
	case outcome == "": // it has run, and its reply was lost: ask again what came of it
		return sent, nil
	case len(outcome) != len(sent):
		return nil, fmt.Errorf("a script told of %d devices, not %d", len(outcome), len(sent))
	}
	var again []int
	for i, at := range sent {
		if outcome[i] != 'y' {
			again = append(again, at)
		}
	}
	return again, nil
}

// mergePut returns the script's arguments for a device, nil if there is nothing
// to store.
func (s *Store) mergePut(hub provision.HubID, put provision.Put, before string) (row []any, key string, result provision.PutResult) {
	var is *provision.Device
	if before != "" {
		d, err := record.DecodeDevice(hub, []byte(before))
		if err != nil {
			return nil, "", provision.PutResult{Err: err}
		}
		is = &d
	}
	d, result := put.Merged(hub, is)
	if result.Outcome != provision.PutCreated && result.Outcome != provision.PutUpdated {
		return nil, "", result
	}
	after, err := record.EncodeDevice(d)
	if err != nil {
		return nil, "", provision.PutResult{Err: err}
	}
	var event, change []byte
	anchorBefore := ""
	if is != nil {
		if event, err = encodeEvent(put.Event(*is, d)); err != nil {
			return nil, "", provision.PutResult{Err: err}
		}
		change = encodeChange(provision.DeviceChanged, hub, d.ID)
		anchorBefore = anchorField(*is)
	}
	return []any{put.Name, before, after, event, change, anchorBefore, anchorField(d)}, s.partition(hub).device(d.ID), result
}
