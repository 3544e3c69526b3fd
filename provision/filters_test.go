package provision

import (
	"regexp"
	"strings"
	"testing"
)

func TestFilters(t *testing.T) {
	t.Parallel()
	accept := func(topics ...string) Filter { return Filter{Topics: topics} }
	reject := func(topics ...string) Filter { return Filter{Reject: true, Topics: topics} }
	both := func(f Filter) *Filters { return &Filters{Publish: f, Subscribe: f} }
	tests := []struct {
		name    string
		filters *Filters
		// what may be published and received, and what may not
		topics, notTopics string
		// what may be subscribed to, and what may not
		subscriptions, notSubscriptions string
	}{
		{"none", nil,
			"a a/b / /a $SYS/a $a", "+ # a/+ a/#",
			"a # + a/# +/+ $SYS/# $share/g/# $share/g/a", "a# a+ #/a $share/g $share//a $share/g/ $share/+/a $share/g/#/a"},
		{"accept nothing", both(accept()),
			"", "a / $SYS/a",
			"", "a # +"},
		{"reject nothing", both(reject()),
			"a / $SYS/a", "+",
			"a # $SYS/# $share/g/#", "#/a"},
		{"accept a topic", both(accept("a/b")),
			"a/b", "a a/b/c a/ /a/b A/b $a/b",
			"a/b $share/g/a/b", "# + a/# a/+ +/b a/b/# $queue/a/b $share/g/$share/g/a/b"},
		{"accept one level", both(accept("a/+/c")),
			"a/b/c a//c a/$b/c", "a/c a/b/c/d a/b",
			"a/+/c a/b/c $share/g/a/+/c", "a/# +/b/c a/+/+ a/+/c/#"},
		{"accept what is below", both(accept("a/#")),
			"a a/ a/b a/b/c", "ab b/a /a $a",
			"a a/# a/+ a/+/# a/b/#", "# + +/# +/a"},
		{"accept all", both(accept("#")),
			"a /a a/b/c", "$SYS/a $a $",
			"# + +/# a/#", "$SYS/# $SYS/a $share/g/$SYS/#"},
		{"accept $", both(accept("$SYS/#", "a")),
			"$SYS $SYS/a a", "$SYSa $other/a",
			"$SYS/# $SYS/+/a a $share/g/$SYS/#", "+ # +/a"},
		{"accept two", both(accept("a/b", "a/+/#")),
			"a/b a/c/d", "a",
			"a/b a/+", "a/# #"},
		{"reject a topic", both(reject("a/b")),
			"a a/b/c a/c", "a/b $SYS/a $delayed/10/a/b",
			"a a/c +/c a/+/c b/#", "a/b # a/# a/+ +/b +/+ +/# $share/g/a/b $share/g/# $queue/a/b $SYS/#"},
		{"reject what is below", both(reject("a/#")),
			"b ab /a", "a a/b a/ $a",
			"b/# b/+ b/a", "+ # +/# +/b +/b/c a a/b a/# $share/g/+"},
		{"reject one level", both(reject("+/b")),
			"a b/c a/b/c", "a/b /b",
			"+ +/c +/b/c a/c/#", "# a/# +/+ +/b +/b/# a/+"},
		{"reject all", both(reject("#")),
			"", "a a/b / $SYS/a",
			"", "a # + $SYS/#"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			hold := func(what string, may func(string) bool, list string, want bool) {
				for _, s := range strings.Fields(list) {
					if may(s) != want {
						t.Errorf("%s %q: %t", what, s, !want)
					}
				}
			}
			hold("publish", test.filters.MayPublish, test.topics, true)
			hold("publish", test.filters.MayPublish, test.notTopics, false)
			hold("receive", test.filters.MayReceive, test.topics, true)
			hold("receive", test.filters.MayReceive, test.notTopics, false)
			hold("subscribe", test.filters.MaySubscribe, test.subscriptions, true)
			hold("subscribe", test.filters.MaySubscribe, test.notSubscriptions, false)
			hold("subscribe", test.filters.MaySubscribe, test.topics, true)
		})
	}
}

// TestFiltersApart: what is published goes by one list, the rest by the other.
func TestFiltersApart(t *testing.T) {
	t.Parallel()
	f := &Filters{Publish: Filter{Topics: []string{"up"}}, Subscribe: Filter{Topics: []string{"down"}}}
	for _, topic := range []string{"up", "down"} {
		up := topic == "up"
		if f.MayPublish(topic) != up || f.MayReceive(topic) == up || f.MaySubscribe(topic) == up {
			t.Errorf("%s: publish %t, receive %t, subscribe %t", topic, f.MayPublish(topic), f.MayReceive(topic), f.MaySubscribe(topic))
		}
	}
}

func TestFiltersUnfit(t *testing.T) {
	t.Parallel()
	var none *Filters
	for _, s := range []string{"", "a\x00", "\xff", strings.Repeat("a", 1<<16)} {
		if none.MayPublish(s) || none.MayReceive(s) || none.MaySubscribe(s) {
			t.Errorf("%.20q is no topic", s)
		}
	}
	if longest := strings.Repeat("a", 1<<16-1); !none.MayPublish(longest) || !none.MaySubscribe(longest) {
		t.Error("the longest topic is one")
	}
}

// matches tells by other means whether a filter matches a topic.
func matches(t testing.TB, filter, topic string) bool {
	t.Helper()
	pattern := "^" + regexp.QuoteMeta(filter) + "$"
	pattern = strings.ReplaceAll(pattern, `/#$`, `(/.*)?$`)
	pattern = strings.ReplaceAll(pattern, `#`, `.*`)
	pattern = strings.ReplaceAll(pattern, `\+`, `[^/]*`)
	matched, err := regexp.MatchString("(?s)"+pattern, topic)
	if err != nil {
		t.Fatal(err)
	}
	return matched && (!strings.HasPrefix(topic, "$") || !strings.ContainsAny(filter[:1], "+#"))
}

// texts are all joins of up to so many of the levels.
func texts(depth int, levels ...string) []string {
	all := append([]string{}, levels...)
	for last := all; depth > 1; depth-- {
		var longer []string
		for _, text := range last {
			for _, level := range levels {
				longer = append(longer, text+"/"+level)
			}
		}
		all, last = append(all, longer...), longer
	}
	return all
}

// TestFiltersByCounting holds covers and overlaps, for all pairs of short
// filters, to what follows from the topics that each matches. Topics are a level
// deeper than filters and have a level that no filter names: what is true of
// these is true of all. The empty topic counts, though there is none.
func TestFiltersByCounting(t *testing.T) {
	t.Parallel()
	topics := texts(4, "", "a", "$", "z")
	var filters []string
	var sets [][]bool
	for _, filter := range texts(3, "", "a", "$", "+", "#") {
		if malformedTopicFilter(filter) != "" {
			continue
		}
		filters = append(filters, filter)
		set := make([]bool, len(topics))
		for i, topic := range topics {
			set[i] = matches(t, filter, topic)
		}
		sets = append(sets, set)
	}
	for i, a := range filters {
		for j, b := range filters {
			within, together := true, false
			for k := range topics {
				within = within && (sets[i][k] || !sets[j][k])
				together = together || sets[i][k] && sets[j][k]
			}
			if covers(a, b) != within {
				t.Errorf("covers(%q, %q) is not %t", a, b, within)
			}
			if overlaps(a, b) != together {
				t.Errorf("overlaps(%q, %q) is not %t", a, b, together)
			}
		}
	}
}

// FuzzFilters: what has to be true of any two filters and a topic.
func FuzzFilters(f *testing.F) {
	f.Add("a/+/#", "+/b", "a/b")
	f.Add("#", "$SYS/#", "$SYS")
	f.Add("+/+", "/", "//")
	f.Fuzz(func(t *testing.T, a, b, topic string) {
		if malformedTopicFilter(a) != "" || malformedTopicFilter(b) != "" || !isTopic(topic) {
			return
		}
		of, also := matches(t, a, topic), matches(t, b, topic)
		switch {
		case covers(a, topic) != of:
			t.Errorf("covers(%q, %q) is not %t", a, topic, of)
		case overlaps(a, topic) != of:
			t.Errorf("overlaps(%q, %q) is not %t", a, topic, of)
		case overlaps(a, b) != overlaps(b, a):
			t.Errorf("whether %q and %q overlap depends on the order", a, b)
		case of && also && !overlaps(a, b):
			t.Errorf("%q and %q both match %q", a, b, topic)
		case covers(a, b) && also && !of:
			t.Errorf("%q covers %q, which matches %q", a, b, topic)
		case covers(a, b) && !overlaps(a, b):
			t.Errorf("%q covers %q, and has nothing in common with it", a, b)
		}
	})
}

func BenchmarkFilters(b *testing.B) {
	f := &Filters{Publish: Filter{Topics: make([]string, MaxFilterTopics)}}
	for i := range f.Publish.Topics {
		f.Publish.Topics[i] = "factory/line/+/sensors/" + strings.Repeat("x", i)
	}
	b.ReportAllocs()
	for b.Loop() {
		if f.MayPublish("factory/line/17/sensors/temperature") {
			b.Fatal("it may")
		}
	}
}
