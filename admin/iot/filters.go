package iot

import "github.com/hubgate/hubgate/provision"

// showFilters says "nothing is rejected" where there are no filters.
func showFilters(f *provision.Filters) messageFilters {
	if f == nil {
		return messageFilters{Publish: &filterRule{filterReject, []string{}}, Subscribe: &filterRule{filterReject, []string{}}}
	}
	return messageFilters{Publish: showFilter(f.Publish), Subscribe: showFilter(f.Subscribe)}
}

func showFilter(f provision.Filter) *filterRule {
	policy := filterAccept
	if f.Reject {
		policy = filterReject
	}
	return &filterRule{policy, append([]string{}, f.Topics...)}
}

// change applies what a request says of the filters to those there are. It
// leaves out a rule that is not given, and answers nil for filters that let
// everything through.
func (m *messageFilters) change(old *provision.Filters) (*provision.Filters, error) {
	changed := provision.Filters{Publish: provision.Filter{Reject: true}, Subscribe: provision.Filter{Reject: true}}
	if old != nil {
		changed = *old
	}
	for _, part := range []struct {
		name string
		rule *filterRule
		into *provision.Filter
	}{
		{"message_filters.publish", m.Publish, &changed.Publish},
		{"message_filters.subscribe", m.Subscribe, &changed.Subscribe},
	} {
		if part.rule == nil {
			continue
		}
		if p := part.rule.Policy; p != filterAccept && p != filterReject {
			return nil, invalid(part.name+".policy", required, "say accept (these topics alone) or reject (all but these): %q is neither", string(p))
		}
		*part.into = provision.Filter{Reject: part.rule.Policy == filterReject, Topics: part.rule.Topics}
	}
	if open(changed.Publish) && open(changed.Subscribe) {
		return nil, nil
	}
	return &changed, nil
}

func open(f provision.Filter) bool { return f.Reject && len(f.Topics) == 0 }
