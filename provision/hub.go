package provision

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/trust"
)

// Hub is one fleet: its own trust anchors, its own devices.
type Hub struct {
	ID   HubID
	Name string
	// Version counts the changes of a hub in the store. A device is created only
	// while the store still holds the version that the decision was made with. A
	// declared hub's settings live in a file: only what is revoked on it changes
	// its version.
	Version uint64
	// Revocations counts the changes of what is revoked on the hub; 0: nothing
	// ever was.
	Revocations uint64
	// Declared names the file that declares the hub; empty for a stored one.
	Declared string
	// Disabled refuses every connection to the hub.
	Disabled bool
	// Deleting marks a hub whose devices are being removed. Nothing connects
	// to it and nothing is created on it any more.
	Deleting bool
	// AutoProvisioning lets an unseen device with a valid chain create itself.
	AutoProvisioning bool
	// SNIOnly keeps the hub out of the search by issuer; its devices have to
	// name it in SNI, or Envoy's configuration has to.
	SNIOnly bool
	// UnicodeNames accepts device names beyond printable ASCII.
	UnicodeNames bool
	// Anchors are the CAs that the hub's owner installed, DER.
	Anchors [][]byte
	// Intermediates are those that operators uploaded, DER.
	Intermediates [][]byte
	// Project is the tenant that the hub belongs to; the zero UUID is none.
	Project uuid.UUID
	// EventsDisabled keeps the hub's events from being published over MQTT; they
	// are stored, and posted to webhooks, all the same.
	EventsDisabled bool
	// EventsTopicPrefix begins the MQTT topics of the hub's events; empty for
	// the configured template.
	EventsTopicPrefix string
	// ProductPlan is kept for clients of the IoT API; it means nothing here.
	ProductPlan string
	// Policy is what the owner decides beyond whom to trust.
	Policy Policy
	// AnchorFacts tell how each of Anchors came to be trusted. Of a declared hub
	// they tell the group alone.
	AnchorFacts map[trust.Fingerprint]AnchorFacts
	// CRLSources are where its CRLs come from: addresses (http, https), and of a
	// declared hub files too, by their absolute paths.
	CRLSources []string
	// Proposal is what the hub is about to trust, nil if nothing.
	Proposal  *Proposal
	CreatedAt time.Time
	UpdatedAt time.Time
	// revoked is what is revoked on the hub, where the Gate has read it.
	revoked *revoked
	// Unknown holds the record's fields of a newer schema. They survive a
	// rewrite by this version.
	Unknown []byte
}

// AnchorFacts are how a trust anchor came to be one.
type AnchorFacts struct {
	AddedAt time.Time
	AddedBy string // who installed it
	// Waived: nobody proved to have the anchor's key. WaiverReason says why
	// that was accepted.
	Waived       bool
	WaiverReason string
	// Group names anchors that take each other's place: a device that one of them
	// admitted is admitted by the others too. "": the anchor is in none.
	Group string
}

// Proposal is a change of what a hub trusts that was announced and is not in
// force. Hubs live apart, so no single step of a store can compare them: whoever
// wants to change one announces it first and compares then, so that of two that
// do so at once one sees the other.
type Proposal struct {
	ID            uuid.UUID
	At            time.Time
	Anchors       [][]byte // all that the hub is to have
	Intermediates [][]byte
	SNIOnly       bool
	Admission     []AdmissionRule
}

// Errors of the stores and of what is built on them, for errors.Is.
var (
	// ErrNotFound: no such hub or device.
	ErrNotFound = errors.New("not found")
	// ErrExists: the name or ID is taken.
	ErrExists = errors.New("already exists")
	// ErrHubChanged: the hub is not what it was when the decision was made.
	// Read it again and decide again.
	ErrHubChanged = errors.New("hub has changed")
	// ErrStoreChanged: the store is not the one this process started with
	// (another store ID, or none). Nothing is created on it.
	ErrStoreChanged = errors.New("store is not the one this process started with")
	// ErrNotEmpty: the hub has devices.
	ErrNotEmpty = errors.New("has devices")
	// ErrNotClaimed: the name is not on the hub's claim list, or was used.
	ErrNotClaimed = errors.New("not claimed")
	// ErrTooManyClaims: the claim list would have more than MaxClaims names.
	ErrTooManyClaims = errors.New("too many claims")
	// ErrQuota: the hub has as many devices as it may have.
	ErrQuota = errors.New("the hub has as many devices as it may have")
	// ErrUnavailable: the store does not answer.
	ErrUnavailable = errors.New("store unavailable")
)

// RateError refuses a first connection that comes too soon after others.
type RateError struct {
	// After is when the hub can take one again.
	After time.Duration
}

func (e *RateError) Error() string {
	return fmt.Sprintf("too many first connections: the hub takes one again in %s", e.After)
}

// MaxLearned bounds the intermediates that a hub learns from successful chains.
const MaxLearned = trust.MaxLearned
