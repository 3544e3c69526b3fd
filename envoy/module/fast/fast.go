// Package fast is what the library does in C, because entering Go for it costs
// more than all else that it does: Go has to be given the thread, and wakes one
// of its own that watches over the others. It follows MQTT packets, as
// mqtt.Scanner does in Go (most hooks find nothing but whole packets to pass
// on), and writes a chain down. What is not plain is left to Go, so that the
// filter's rules stay in one place. Tests hold both to what Go makes of it.
package fast

// #include "chain.h"
// #include "scan.h"
// #include <stdlib.h>
import "C"

import (
	"unsafe"

	"github.com/hubgate/hubgate/envoy/module/mqtt"
)

// Bounds of the chain that is passed on.
const (
	MaxCertificates = C.hubgate_max_certificates
	MaxChain        = C.hubgate_max_chain // bytes of DER
)

// The layouts agree.
var _ = [1]byte{}[unsafe.Sizeof(mqtt.Scanner{})-C.sizeof_scanner]

// Scan is what the shim does with a piece of a connection. It reports whether
// Go need not see it; connects tells whether CONNECT packets may pass.
func Scan(s *mqtt.Scanner, b []byte, connects bool) bool {
	return bool(C.hubgate_scan((*C.scanner)(unsafe.Pointer(s)), (*C.char)(unsafe.Pointer(unsafe.SliceData(b))), C.size_t(len(b)), C.bool(connects)))
}

// EncodeChain is what the shim leaves in filter state of the certificates that
// a device has sent.
func EncodeChain(certificates [][]byte) string {
	list := make([]C.buffer, len(certificates))
	for i, der := range certificates {
		list[i] = C.buffer{(*C.char)(C.CBytes(der)), C.size_t(len(der))}
		defer C.free(unsafe.Pointer(list[i].ptr))
	}
	var n C.size_t
	out := C.hubgate_encode_chain(unsafe.SliceData(list), C.size_t(len(list)), &n)
	defer C.free(unsafe.Pointer(out))
	return C.GoStringN(out, C.int(n))
}
