package provision

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

// crowded is the decision on a first connection too many.
func crowded(d Decision) Decision {
	d.Reason, d.Detail = Overloaded, "a quarter of what authz.max_in_flight allows are first connections"
	return d
}
