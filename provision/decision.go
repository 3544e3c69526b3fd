package provision

import (
	"crypto/x509"
	"time"
)

// Decision is the outcome of a check.
type Decision struct {
	// ID joins what the device sees to the log line and the hub event.
	ID     string
	Reason Reason
	// Detail is for operators: log, event and explain. A device never sees it.
	Detail string
	// Hub and Device are set as far as the check got.
	Hub        HubID
	HubName    string
	Device     DeviceID
	DeviceName string
	// Session is the ID of the connection's session, "" if none is kept.
	Session string
	// Hold has the connection wait until the Envoy is told that no older one of
	// the device is open.
	Hold bool
	// Certificate is the one that broke the chain, if one did.
	Certificate *x509.Certificate
	// RetryAfter is when trying again makes sense; 0 if there is no telling.
	RetryAfter time.Duration
	// Outage is set if the store did not answer, and what was known of the device
	// before made the decision.
	Outage bool
	// Steps are the steps taken, in order; only in a dry run.
	Steps []Step
}

// Allowed reports whether the connection goes on.
func (d Decision) Allowed() bool { return d.Reason.Outcome() == Allow }

// Step is one step of an explained decision.
type Step struct {
	Name   string // what was checked, for people
	OK     bool
	Detail string // what was found
}
