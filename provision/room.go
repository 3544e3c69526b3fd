package provision

import "errors"

// room bounds how many checks do something at once. Nobody waits for it: who
// finds it full is better told so than late.
type room chan struct{}

// newRoom has room for at least one.
func newRoom(most int) room { return make(room, max(1, most)) }

func (r room) enter() bool {
	select {
	case r <- struct{}{}:
		return true
	default:
		return false
	}
}

func (r room) leave() { <-r }

func (r room) full() bool { return len(r) == cap(r) }

// errNoPlace is for who finds no place among those that are not recognised.
var errNoPlace = errors.New("half of what authz.max_in_flight allows are checks of devices that are not recognised")

// crowded is the decision on a first connection too many.
func crowded(d Decision, why string) Decision {
	d.Reason, d.Detail = Overloaded, why
	return d
}
