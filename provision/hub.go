package provision

import (
	"errors"
	"time"

	"github.com/hubgate/hubgate/trust"
)

// Hub is one fleet: its own trust anchors, its own devices.
type Hub struct {
	ID   HubID
	Name string
	// Version counts the changes of a stored hub. A device is created only
	// while the store still holds the version that the decision was made with.
	// A declared hub's settings live in a file, so its version stays 0.
	Version uint64
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
	CreatedAt     time.Time
	UpdatedAt     time.Time
	// Unknown holds the record's fields of a newer schema. They survive a
	// rewrite by this version.
	Unknown []byte
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
	// ErrUnavailable: the store does not answer.
	ErrUnavailable = errors.New("store unavailable")
)

// MaxLearned bounds the intermediates that a hub learns from successful chains.
const MaxLearned = trust.MaxLearned
