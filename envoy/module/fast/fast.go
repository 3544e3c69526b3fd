// Package fast follows MQTT packets in C, as mqtt.Scanner does in Go. Most
// hooks find nothing but whole packets to pass on; entering Go for that costs
// more than all else they do. What is not plain is left to Go, so that the
// filter's rules stay in one place.
package fast

// #include "scan.h"
import "C"

import (
	"unsafe"

	"github.com/hubgate/hubgate/envoy/module/mqtt"
)

// The layouts agree.
var _ = [1]byte{}[unsafe.Sizeof(mqtt.Scanner{})-C.sizeof_scanner]

// Scan is what the shim does with a piece of a connection. It reports whether
// Go need not see it; connects tells whether CONNECT packets may pass.
func Scan(s *mqtt.Scanner, b []byte, connects bool) bool {
	return bool(C.hubgate_scan((*C.scanner)(unsafe.Pointer(s)), (*C.char)(unsafe.Pointer(unsafe.SliceData(b))), C.size_t(len(b)), C.bool(connects)))
}
