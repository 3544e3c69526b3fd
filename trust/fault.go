package trust

import (
	"crypto/x509"
	"fmt"
)

// Fault is the class of what is wrong with a chain. Each is one reason code.
type Fault uint8

// The faults.
const (
	Malformed   Fault = iota + 1 // a certificate does not parse
	Unsupported                  // over a limit, or a key or algorithm that is not accepted
	Incomplete                   // an issuer is missing
	Untrusted                    // it does not chain to an anchor, or a constraint forbids it
	Expired                      // a certificate of the path is past its notAfter
	NotYetValid                  // a certificate of the path is before its notBefore
	WrongUsage                   // the leaf or its path is not for TLS client authentication
	Revoked                      // a certificate of the path, or its key, is revoked
)

var faultNames = [...]string{
	Malformed:   "malformed",
	Unsupported: "unsupported",
	Incomplete:  "incomplete",
	Untrusted:   "untrusted",
	Expired:     "expired",
	NotYetValid: "not yet valid",
	WrongUsage:  "wrong usage",
	Revoked:     "revoked",
}

// String returns the fault in words.
func (f Fault) String() string {
	if int(f) < len(faultNames) && faultNames[f] != "" {
		return faultNames[f]
	}
	return fmt.Sprintf("fault %d", uint8(f))
}

// Error says what is wrong with a chain. ParseChain and Verify return no other
// type. It is immutable and may be shared among connections.
type Error struct {
	Fault Fault
	// Certificate is the one that broke the chain; nil if it did not parse or no
	// single one did.
	Certificate *x509.Certificate
	// Index is where that certificate was handed in: 0 is the leaf, n the n-th
	// presented certificate (not counting a repeated leaf at their head), -1 none
	// of them, such as an anchor.
	Index int
	// Detail is one sentence for operators. Names in it were chosen by whoever
	// made the certificates; they are quoted and cut to a sane length.
	Detail string
	// Signed tells that a path of valid signatures from an anchor to the leaf
	// exists, so that only time, usage or constraints failed: the chain belongs
	// to this bundle's hub.
	Signed bool

	// exhausted tells that the budget ran out: no verdict on the chain as such.
	exhausted bool
}

// Exhausted tells that the signature checks ran out before the chain was judged:
// with more of them, it might verify.
func (e *Error) Exhausted() bool { return e.exhausted }

// Error returns the detail, led by the fault.
func (e *Error) Error() string { return e.Fault.String() + ": " + e.Detail }
