package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/hubgate/hubgate/provision"
)

// Hub names are unique across partitions, so no single script can hand one out.
// A name is reserved first, then the hub's own script writes the hub. What can
// go wrong in between, and what makes it safe:
//
//	free ──take──▶ reserved by A ──A's hub is written with the name──▶ A's
//	                  │ ▲
//	     B voids it ──┘ └── B takes it
//
// A process that dies after its reservation leaves a name that nobody carries.
// Whoever wants it looks into the holder's partition; if the holder does not
// carry the name, the same script voids the reservation there, and the holder's
// own script, should it still be on its way, finds that and writes nothing.
// Only then is the name taken over, unless the reservation has changed. Epochs
// order reservations, so that one that is newer than the void one is good.
//
// When a hub is deleted or renamed the hub changes first and the name is freed
// after; a process that dies in between leaves the same kind of reservation.

// reservation is the value of a name's key.
type reservation struct {
	text  string // as stored, "" for none
	hub   provision.HubID
	epoch uint64
}

func parseReservation(text string) (reservation, error) {
	if text == "" {
		return reservation{}, nil
	}
	id, epoch, _ := strings.Cut(text, " ")
	hub, err := provision.ParseHubID(id)
	if err != nil {
		return reservation{}, fmt.Errorf("name reservation: %w", err)
	}
	n, err := strconv.ParseUint(epoch, 10, 64)
	if err != nil {
		return reservation{}, fmt.Errorf("name reservation: %w", err)
	}
	return reservation{text: text, hub: hub, epoch: n}, nil
}

// reserve reserves the name for the hub, ErrExists if another hub carries it.
func (s *Store) reserve(ctx context.Context, name string, hub provision.HubID) (reservation, error) {
	held, err := s.holder(ctx, name)
	for {
		if err != nil {
			return reservation{}, err
		}
		if held.text != "" && held.hub != hub {
			if err := s.voidReservation(ctx, name, held); err != nil {
				return reservation{}, err
			}
		}
		w, text, err := s.run(ctx, scriptNameTake, []string{keyName(name), keyNameEpoch}, []any{held.text, hub.String()})
		if err != nil {
			return reservation{}, err
		}
		switch w {
		case wordOK:
			return parseReservation(text)
		case wordHeld:
			held, err = parseReservation(text)
			if err != nil {
				return reservation{}, err
			}
		default:
			return reservation{}, unexpected(w)
		}
	}
}

// voidReservation voids a reservation, ErrExists if the holder carries the name.
func (s *Store) voidReservation(ctx context.Context, name string, held reservation) error {
	p := s.partition(held.hub)
	w, _, err := s.change(ctx, p, scriptHubVoid, []string{p.hub(held.hub), p.void(held.hub)}, name, held.epoch)
	if err != nil {
		return err
	}
	switch w {
	case wordOK:
		return nil
	case wordNamed:
		return nameTaken(name)
	default:
		return unexpected(w)
	}
}

func nameTaken(name string) error {
	return fmt.Errorf("hub name %q: %w", name, provision.ErrExists)
}

// holder returns who has reserved the name.
func (s *Store) holder(ctx context.Context, name string) (reservation, error) {
	var text string
	err := s.call(ctx, func(ctx context.Context) (err error) {
		text, err = s.client.Get(ctx, keyName(name)).Result()
		return err
	})
	if err != nil && !errors.Is(err, provision.ErrNotFound) {
		return reservation{}, err
	}
	return parseReservation(text)
}

// release frees the name that the hub carried until now.
func (s *Store) release(ctx context.Context, name string, was reservation) error {
	_, _, err := s.run(ctx, scriptNameRelease, []string{keyName(name)}, []any{was.text})
	return err
}
