// Command module is the library that Envoy loads, libhubgate.so: it hands the
// device's certificate chain on, writes the device's identity into the MQTT
// CONNECT, and ends connections when hubgate says so. It only joins Envoy's C
// interface to package filter, which does the work. Build it with:
//
//	CGO_ENABLED=1 go build -trimpath -buildmode=c-shared -ldflags '-s -w' -o bin/libhubgate.so ./envoy/module
//
// A panic that leaves a hook would end Envoy, so every hook recovers, and
// closes the connection it was about.
package main

// #cgo LDFLAGS: -Wl,--unresolved-symbols=ignore-all
// #include "envoy.h"
import "C"

import (
	"fmt"
	"log/slog"
	"runtime/cgo"
	"runtime/debug"
	"unsafe"

	_ "github.com/hubgate/hubgate/envoy/module/fast" // its C
	"github.com/hubgate/hubgate/envoy/module/filter"
)

var (
	log     = filter.NewLog(writeLog)
	library = filter.NewLibrary(log)

	// What C keeps, or gets to see in every connection.
	abi        = C.CString("v0.2.0")
	digest     = keep("hubgate chain 1") // to change when the validator does
	answers    = keep("envoy.filters.network.ext_authz")
	chainState = keep(filter.ChainState)
	epochState = keep(filter.EpochState)
	epoch      = keep(library.Epoch())
)

// failed is what a hook returns for a configuration that is no good.
const failed = 0

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
func envoy_dynamic_module_on_program_init() *C.char { return abi }

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
		return failed
	}
	return 1 // all validators are alike
}

//export envoy_dynamic_module_on_cert_validator_config_destroy
func envoy_dynamic_module_on_cert_validator_config_destroy(m C.uintptr_t) { _ = m }

//export envoy_dynamic_module_on_cert_validator_get_ssl_verify_mode
func envoy_dynamic_module_on_cert_validator_get_ssl_verify_mode(m C.uintptr_t, handshaker C.bool) C.int {
	_, _ = m, handshaker
	return 1 // ask; hubgate tells those who have none
}

//export envoy_dynamic_module_on_cert_validator_update_digest
func envoy_dynamic_module_on_cert_validator_update_digest(m C.uintptr_t, out *C.buffer) {
	_ = m
	*out = digest
}

//export envoy_dynamic_module_on_cert_validator_do_verify_cert_chain
func envoy_dynamic_module_on_cert_validator_do_verify_cert_chain(
	e C.E, m C.uintptr_t, certificates *C.buffer, n C.size_t, host C.buffer, server C.bool,
) (v C.verdict) {
	_, _, _ = m, host, server
	v.status = 1 // unless nothing panics
	defer rescue()
	chain := make([][]byte, n)
	for i, der := range unsafe.Slice(certificates, int(n)) {
		chain[i] = view(der)
	}
	C.envoy_dynamic_module_callback_cert_validator_set_filter_state(e, chainState, lend(filter.EncodeChain(chain)))
	return C.verdict{} // let it pass as "not validated": hubgate decides
}

//export envoy_dynamic_module_on_network_filter_config_new
func envoy_dynamic_module_on_network_filter_config_new(e C.E, name, config C.buffer) C.uintptr_t {
	_ = e
	defer rescue()
	start := !bool(C.envoy_dynamic_module_callback_is_validation_mode())
	workers := int(C.envoy_dynamic_module_callback_get_concurrency())
	settings, err := library.Configure(string(view(name)), view(config), start, workers)
	if err != nil {
		log.Error("wrong configuration", "error", err)
		return failed
	}
	return C.uintptr_t(cgo.NewHandle(settings))
}

//export envoy_dynamic_module_on_network_filter_config_destroy
func envoy_dynamic_module_on_network_filter_config_destroy(m C.uintptr_t) {
	defer rescue()
	cgo.Handle(m).Delete()
}
