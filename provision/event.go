package provision

import (
	"time"
)

// Severity of a hub event.
type Severity string

// Severities.
const (
	SeverityInfo  Severity = "info"
	SeverityError Severity = "error"
)

// ObjectType is what a hub event is about.
type ObjectType string

// Object types.
const (
	ObjectDevice ObjectType = "device"
	ObjectHub    ObjectType = "hub"
)

// eventSpecVersion is hubgate's own version of the event's form.
const eventSpecVersion = "1.0"

// Event is a hub event: what happened to a device or a hub. It is stored in the
// same step as what it tells. The JSON form is a contract.
type Event struct {
	ID            string     `json:"id"`
	SpecVersion   string     `json:"specversion"`
	Time          time.Time  `json:"time"`
	Severity      Severity   `json:"severity"`
	ObjectType    ObjectType `json:"object-type"`
	ObjectID      string     `json:"object-id"`
	ObjectName    string     `json:"object-name"`
	Hub           HubID      `json:"hub-id"`
	Message       string     `json:"msg"`
	Reason        string     `json:"reason"`
	SourceAddress string     `json:"source-address,omitempty"`
	Decision      string     `json:"decision-id,omitempty"`
	Count         int        `json:"count"`
}
