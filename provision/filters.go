package provision

import (
	"slices"
	"strings"
)

// maxTopicBytes is how long MQTT lets a topic be.
const maxTopicBytes = 65535

// MayPublish reports whether a device with these filters may publish to a topic.
func (f *Filters) MayPublish(topic string) bool {
	return isTopic(topic) && (f == nil || f.Publish.allows(topic))
}

// MayReceive reports whether a device with these filters may be sent what is
// published to a topic.
func (f *Filters) MayReceive(topic string) bool {
	return isTopic(topic) && (f == nil || f.Subscribe.allows(topic))
}

// MaySubscribe reports whether a device with these filters may subscribe to a
// topic filter: to all that it can match, or not at all. A shared subscription
// ($share/group/filter) counts as one to its filter.
func (f *Filters) MaySubscribe(filter string) bool {
	filter, ok := unshared(filter)
	return ok && len(filter) <= maxTopicBytes && malformedTopicFilter(filter) == "" &&
		(f == nil || f.Subscribe.allows(filter))
}

// allows judges a topic, or a topic filter: a topic is a filter that matches
// itself alone.
//
// What begins with $ can be another name of something else, as the broker likes
// ($delayed/10/a publishes to a in ten seconds, at some): a list of what is
// refused cannot know all names, so beside one these are refused altogether.
func (f Filter) allows(filter string) bool {
	switch {
	case !f.Reject:
		return slices.ContainsFunc(f.Topics, func(accepted string) bool { return covers(accepted, filter) })
	case len(f.Topics) == 0:
		return true
	}
	return !dollar(filter) && !slices.ContainsFunc(f.Topics, func(rejected string) bool { return overlaps(rejected, filter) })
}

// covers reports whether pattern matches every topic that filter matches. Both
// are topic filters as MQTT 5.0, 4.7 has them.
func covers(pattern, filter string) bool {
	if wild(pattern) && dollar(filter) {
		return false
	}
	pattern, filter = spelledOut(pattern), spelledOut(filter)
	for {
		p, patternRest, patternGoesOn := strings.Cut(pattern, "/")
		f, filterRest, filterGoesOn := strings.Cut(filter, "/")
		switch {
		case p == "#":
			return true
		case f == "#", p != "+" && p != f:
			return false
		case !filterGoesOn:
			return !patternGoesOn || patternRest == "#" // a/# matches a, too
		case !patternGoesOn:
			return false
		}
		pattern, filter = patternRest, filterRest
	}
}

// overlaps reports whether there is a topic that both filters match.
func overlaps(a, b string) bool {
	if wild(a) && dollar(b) || wild(b) && dollar(a) {
		return false
	}
	for {
		x, aRest, aGoesOn := strings.Cut(a, "/")
		y, bRest, bGoesOn := strings.Cut(b, "/")
		switch {
		case x == "#" || y == "#":
			return true
		case x != y && x != "+" && y != "+":
			return false
		case !aGoesOn:
			return !bGoesOn || bRest == "#"
		case !bGoesOn:
			return aRest == "#"
		}
		a, b = aRest, bRest
	}
}

// spelledOut writes # as +/#: every topic has a first level.
func spelledOut(filter string) string {
	if filter == "#" {
		return "+/#"
	}
	return filter
}

// wild reports whether a wildcard comes first: it never matches a $ in front.
func wild(filter string) bool {
	return strings.HasPrefix(filter, "+") || strings.HasPrefix(filter, "#")
}

func dollar(filter string) bool { return strings.HasPrefix(filter, "$") }

// isTopic reports whether messages can have that topic.
func isTopic(s string) bool {
	return len(s) <= maxTopicBytes && malformedTopicFilter(s) == "" && !strings.ContainsAny(s, "+#")
}

// unshared returns the topic filter of a shared subscription; any other filter
// is its own. A malformed one is none.
func unshared(filter string) (string, bool) {
	rest, shared := strings.CutPrefix(filter, "$share/")
	if !shared {
		return filter, true
	}
	group, topics, ok := strings.Cut(rest, "/")
	return topics, ok && group != "" && !strings.ContainsAny(group, "+#") && topics != ""
}
