package filter

import (
	"fmt"
	"runtime"
	"testing"
)

// TestMemoryPerConnection: what an open connection keeps is bounded; most of
// it are its three IDs.
func TestMemoryPerConnection(t *testing.T) {
	const n, limit = 2000, 1 << 10
	used := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	s, err := ParseSettings([]byte(mqttConfig))
	if err != nil {
		t.Fatal(err)
	}
	e := start(t, mqttConfig)
	before := used()
	filters := make([]*Filter, n)
	for i := range filters {
		f := New(s, e.links.client, uint64(i), &Shared{}, e)
		e.Filter = f
		e.metadata = map[string]string{}
		for key, value := range map[string]string{keyHub: id(1, i), keyDevice: id(2, i), keyName: id(3, i), keySession: id(4, i)} {
			e.metadata[key] = value
		}
		if passed, _ := e.read(connect5, false); passed == "" {
			t.Fatal("not passed")
		}
		filters[i] = f
	}
	each := (used() - before) / n
	t.Logf("%d bytes per connection", each)
	if each > limit {
		t.Errorf("%d bytes per connection, want at most %d", each, limit)
	}
	runtime.KeepAlive(filters)
}

// id is a text as long as an ID, with memory of its own.
func id(kind, i int) string { return fmt.Sprintf("%08x-0000-8000-8000-%012x", kind, i) }
