// Command module is the library that Envoy loads, libhubgate.so: it hands the
// device's certificate chain on, writes the device's identity into the MQTT
// CONNECT, and ends connections when hubgate says so. It only joins Envoy's C
// interface to package filter, which does the work. Build it with:
//
//	CGO_ENABLED=1 go build -trimpath -buildmode=c-shared -ldflags '-s -w' -o bin/libhubgate.so ./envoy/module
//
// What happens to every connection in the same way is done in C (envoy.c,
// package fast): a connection enters Go twice, with its CONNECT and at its end.
// docs/decisions/0005 says why.
//
// A panic that leaves a hook would end Envoy, so every hook recovers, and
// closes the connection it was about.
package main

// #cgo LDFLAGS: -Wl,--unresolved-symbols=ignore-all
// #include "envoy.h"
// #include <stdlib.h>
import "C"

import (
	"fmt"
	"log/slog"
	"runtime/cgo"
	"runtime/debug"
	"time"
	"unsafe"

	_ "github.com/hubgate/hubgate/envoy/module/fast" // its C
	"github.com/hubgate/hubgate/envoy/module/filter"
)

// expirePause is how late the end of a connection without a CONNECT may come.
const expirePause = 250 * time.Millisecond

var (
	log     = filter.NewLog(writeLog)
	library = filter.NewLibrary(log)

	abi     = C.CString("v0.2.0")
	answers = keep("envoy.filters.network.ext_authz")
)

func main() {} // Envoy never calls it

// keep copies a text to C's memory, for good.
func keep(s string) C.buffer { return C.buffer{C.CString(s), C.size_t(len(s))} }

// lend shows bytes to Envoy for one call.
func lend(b []byte) C.buffer {
	return C.buffer{(*C.char)(unsafe.Pointer(unsafe.SliceData(b))), C.size_t(len(b))}
}

// view is Envoy's memory, valid until the hook returns.
func view(b C.buffer) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(b.ptr)), int(b.length)) }

func writeLog(level slog.Level, line string) {
	C.envoy_dynamic_module_callback_log(C.int(2+level/4), lend([]byte(line))) // Envoy's 2 is info
}

// rescue is deferred by hooks that have no connection to close.
func rescue() {
	if p := recover(); p != nil {
		report(p)
	}
}

func report(p any) { log.Error("panic", "cause", p, "stack", string(debug.Stack())) }

//export envoy_dynamic_module_on_program_init
func envoy_dynamic_module_on_program_init() *C.char {
	C.hubgate_after_go()
	C.hubgate_epoch = keep(library.Epoch())
	return abi
}

//export envoy_dynamic_module_on_cert_validator_config_new
func envoy_dynamic_module_on_cert_validator_config_new(e C.E, name, config C.buffer) C.uintptr_t {
	_ = e
	defer rescue()
	err := filter.CheckChainConfig(view(config))
	if string(view(name)) != filter.Validator {
		err = fmt.Errorf("validator_name: %q is not %q", view(name), filter.Validator)
	}
	if err != nil {
		log.Error("wrong configuration", "error", err)
		return 0
	}
	return 1 // all validators are alike
}

// settings are those of a filter.
type settings struct {
	*filter.Settings
	dropped chan struct{} // closed when Envoy has no more use for them
}

//export envoy_dynamic_module_on_network_filter_config_new
func envoy_dynamic_module_on_network_filter_config_new(e C.E, name, config C.buffer) *C.settings {
	_ = e
	defer rescue()
	start := !bool(C.envoy_dynamic_module_callback_is_validation_mode())
	workers := int(C.envoy_dynamic_module_callback_get_concurrency())
	s, err := library.Configure(string(view(name)), view(config), start, workers)
	if err != nil {
		log.Error("wrong configuration", "error", err)
		return nil
	}
	own := settings{s, make(chan struct{})}
	m := C.hubgate_settings(C.uintptr_t(cgo.NewHandle(own)), C.int64_t(s.ConnectTimeout), C.bool(s.Ahead))
	go expire(m, s.ConnectTimeout, own.dropped)
	return m
}

// expire has those closed that do not send a CONNECT in time, and frees m in the
// end.
func expire(m *C.settings, timeout time.Duration, dropped <-chan struct{}) {
	defer C.free(unsafe.Pointer(m))
	if timeout == 0 {
		<-dropped
		return
	}
	ticker := time.NewTicker(expirePause)
	defer ticker.Stop()
	for {
		select {
		case <-dropped:
			return
		case <-ticker.C:
			C.hubgate_expire(m)
		}
	}
}

//export envoy_dynamic_module_on_network_filter_config_destroy
func envoy_dynamic_module_on_network_filter_config_destroy(m *C.settings) {
	defer rescue()
	handle := cgo.Handle(m.handle)
	close(handle.Value().(settings).dropped)
	handle.Delete()
}
