package main

// #include "envoy.h"
import "C"

import (
	"runtime/cgo"
	"sync"
	"unsafe"

	"github.com/hubgate/hubgate/envoy/module/filter"
)

// connection is a filter with its end of Envoy. It is the filter.Hook of the
// hook that it is in.
type connection struct {
	*filter.Filter
	envoy   C.E
	writing bool // what the hook is about; else reading
	length  C.size_t

	mu        sync.Mutex
	scheduler C.E // nil once the connection is closed
}

// C and Go see the same fields.
var _ = [1]byte{}[unsafe.Sizeof(filter.Shared{})-C.sizeof_shared+unsafe.Offsetof(filter.Shared{}.Device)-unsafe.Offsetof(C.shared{}.device)]

// find gives the connection, which Go knows from its first hook on.
func find(m *C.connection) *connection {
	if m.handle == 0 {
		m.handle = C.uintptr_t(connections.add(&connection{scheduler: m.scheduler}))
	}
	return connections.get(uintptr(m.handle))
}

// in begins a hook.
func (c *connection) in(e C.E, m *C.connection, writing bool, n C.size_t) *connection {
	c.envoy, c.writing, c.length = e, writing, n
	if c.Filter == nil {
		s := cgo.Handle(m.settings.handle).Value().(settings)
		id := uint64(C.envoy_dynamic_module_callback_network_filter_get_connection_id(e))
		c.Filter = filter.New(s.Settings, library, id, (*filter.Shared)(unsafe.Pointer(&m.shared)), c)
	}
	return c
}

func (c *connection) Chunks() [][]byte {
	var n C.size_t
	list := unsafe.Slice(C.hubgate_chunks(c.envoy, C.bool(c.writing), &n), int(n))
	views := make([][]byte, len(list))
	for i, b := range list {
		views[i] = view(b)
	}
	return views
}

func (c *connection) Metadata(key string) string {
	var value C.buffer
	if !C.envoy_dynamic_module_callback_network_get_dynamic_metadata_string(c.envoy, answers, lend([]byte(key)), &value) {
		return ""
	}
	return string(view(value))
}

func (c *connection) Remember(key, value string) {
	C.envoy_dynamic_module_callback_network_set_filter_state_bytes(c.envoy, lend([]byte(key)), lend([]byte(value)))
}

// Wake has Envoy call the filter's Scheduled.
func (c *connection) Wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.scheduler != nil {
		C.envoy_dynamic_module_callback_network_filter_scheduler_commit(c.scheduler, C.ordered)
	}
}

// sleep makes Wake do nothing any more.
func (c *connection) sleep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.scheduler = nil
}

// perform carries out what the filter wants. It returns 1 if the next filter
// is to get nothing of this hook.
func (c *connection) perform(a filter.Action) C.int {
	if a.Take {
		C.hubgate_drain(c.envoy, C.bool(c.writing), c.length)
	}
	if len(a.Put) > 0 {
		C.hubgate_put(c.envoy, C.bool(c.writing), lend(a.Put))
	}
	if len(a.Device) > 0 {
		C.envoy_dynamic_module_callback_network_filter_inject_write_data(c.envoy, lend(a.Device), false)
	}
	if a.Read != filter.AsBefore {
		C.envoy_dynamic_module_callback_network_filter_read_disable(c.envoy, a.Read == filter.Pause)
	}
	if len(a.Broker) > 0 {
		C.envoy_dynamic_module_callback_network_filter_inject_read_data(c.envoy, lend(a.Broker), false)
	}
	if a.Close != filter.Keep {
		C.envoy_dynamic_module_callback_network_filter_close_with_details(c.envoy, C.int(a.Close-filter.Flush), lend([]byte(a.Detail)))
	}
	if a.Stop {
		return 1
	}
	return 0
}

// survive is deferred by the hooks of a connection: a panic closes it.
func (c *connection) survive(stop *C.int) {
	if p := recover(); p != nil {
		defer rescue()
		if stop != nil {
			*stop = 1
		}
		report(p)
		c.perform(c.Fail())
	}
}

//export hubgateConnected
func hubgateConnected(e C.E, m *C.connection) {
	c := find(m)
	defer c.survive(nil)
	c.in(e, m, false, 0)
}

//export hubgateRead
func hubgateRead(e C.E, m *C.connection, n C.size_t, end C.bool) (stop C.int) {
	c := find(m)
	defer c.survive(&stop)
	return c.perform(c.Read(c.in(e, m, false, n), bool(end)))
}

//export hubgateWrite
func hubgateWrite(e C.E, m *C.connection, n C.size_t) (stop C.int) {
	c := find(m)
	defer c.survive(&stop)
	return c.perform(c.Write(c.in(e, m, true, n)))
}

//export hubgateScheduled
func hubgateScheduled(e C.E, m *C.connection, late C.bool) {
	c := find(m)
	defer c.survive(nil)
	c.perform(c.in(e, m, false, 0).Scheduled(bool(late)))
}

//export hubgateClosed
func hubgateClosed(m *C.connection) {
	defer rescue()
	c := find(m)
	connections.remove(uintptr(m.handle))
	m.handle = 0
	c.sleep()
	if c.Filter != nil {
		c.Closed()
	}
}
