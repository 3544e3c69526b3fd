package provision

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/hubgate/hubgate/trust"
)

// DefaultPartitions is how many partitions a new store has. The number is fixed
// when a store is first used.
const DefaultPartitions = 64

// Creation is one first connection: the device to create, the hub version that
// the decision to create it was made with, and the event that tells of it. The
// zero values of the others bound nothing.
type Creation struct {
	Device     Device
	HubVersion uint64
	Event      Event
	// Claim says whether the name has to be on the hub's claim list.
	Claim ClaimPolicy
	// MaxDevices is how many devices the hub may have after it.
	MaxDevices int
	// PerSecond is how many creations with a rate the hub may see in a second,
	// by whichever process: a bucket that holds the tokens of one second.
	PerSecond int
	// DryRun creates nothing, tells nobody and uses up neither claim nor token:
	// it is whether the device would be created, but for the rate.
	DryRun bool
}

// Store is what the Gate needs of a store. Every method honours the context's
// deadline; a store that does not answer returns an error that is
// ErrUnavailable. Methods are safe for concurrent use.
type Store interface {
	// Partitions is the number of partitions, fixed for the store's life.
	Partitions() int
	// Remote reports whether each call is a round trip to a server, so that one
	// that creates is better than one that looks and another that creates.
	Remote() bool
	// Replaced reports whether the store, when it was last heard of, was
	// another than the one that was opened (another store ID, or none). It does
	// no I/O; Watch and the operations keep it current.
	Replaced() bool
	// Hub returns a hub's record, ErrNotFound if there is none. For a declared
	// hub it holds only what the store knows: ID, name, Declared.
	Hub(ctx context.Context, id HubID) (Hub, error)
	// Hubs returns the hubs of one partition, in no order, in a number of round
	// trips that does not grow with theirs.
	Hubs(ctx context.Context, partition int) ([]StoredHub, error)
	// Learned returns the intermediates (DER) that the hub has learned.
	Learned(ctx context.Context, hub HubID) ([][]byte, error)
	// Revocations returns what is revoked on the hub.
	Revocations(ctx context.Context, hub HubID) (Revocations, error)
	// CRL returns the newest list (DER) of that issuer, ErrNotFound if there is
	// none.
	CRL(ctx context.Context, hub HubID, issuer trust.KeyHash) ([]byte, error)
	// ClaimHub records a declared hub: its ID, its name and the file that
	// declares it. It returns ErrExists if the name belongs to another hub or
	// the ID to a stored one, ErrHubChanged while the hub is being deleted.
	// Claiming what is claimed is no change.
	ClaimHub(ctx context.Context, hub Hub) error
	// Device returns the device of that name, ErrNotFound if there is none.
	Device(ctx context.Context, hub HubID, name string) (Device, error)
	// CreateDevice creates the device and appends the event in one atomic step,
	// unless a device of that name exists: then it returns that one and false.
	// It returns ErrHubChanged, and creates nothing, if the hub is gone, being
	// deleted, or of another version; ErrStoreChanged if the store is not the
	// one it was at start. Once a change of a hub is acknowledged, no creation
	// that was decided before it succeeds. Then, in this order, it refuses with
	// ErrNotClaimed, ErrQuota or a *RateError; one that is refused uses up
	// neither the claim nor a token, one that succeeds both.
	CreateDevice(ctx context.Context, c Creation) (Device, bool, error)
	// BindDevice binds a device to its key and anchor in one atomic step, unless
	// it is bound to others than the decision was made with: then it returns the
	// record as it is, and changes nothing. It
	// returns ErrHubChanged as CreateDevice does, ErrNotFound if the device is
	// gone.
	BindDevice(ctx context.Context, b Binding) (Device, error)
	// Learn remembers intermediates (DER) of a successful path, at most
	// MaxLearned per hub; what exceeds that is dropped. What is known already
	// is no change. It returns ErrHubChanged if the hub is gone or being
	// deleted.
	Learn(ctx context.Context, hub HubID, intermediates [][]byte) error
	// Watch follows the change feed until the context ends, telling sink of
	// every change made by any process from the moment it first calls
	// sink.Fresh for the partition. It reconnects by itself and returns only
	// the context's error.
	Watch(ctx context.Context, sink Sink) error
}

// StoredHub is a hub's record, and what else checks need of what the store has
// of it.
type StoredHub struct {
	*Hub
	Learned [][]byte // as Store.Learned returns it
}

// Binding is what an accepted connection brings that is the first one of a
// device that an administrator created, or comes with another certificate.
type Binding struct {
	Hub    HubID
	Device DeviceID
	// HubVersion is the hub's that the decision was made with.
	HubVersion uint64
	// WasKey and WasAnchor are the device's current ones that the decision was
	// made with; zero for one that is not bound.
	WasKey    trust.KeyHash
	WasAnchor trust.KeyHash
	Key       trust.KeyHash
	Anchor    trust.KeyHash
	Issuer    trust.KeyHash
	From      netip.Addr
	At        time.Time
	// Pending notes the key as one that waits for approval, and binds nothing.
	Pending bool
	// Event tells of it; it is made from the record after it.
	Event func(Device) Event
}

// Apply binds the device. It returns false if it is bound to something else than
// what the decision was made with. A device keeps the key that it was first bound
// to.
func (b Binding) Apply(d *Device) bool {
	if d.CurrentKey != b.WasKey || d.Anchor != b.WasAnchor {
		return false
	}
	if b.Pending {
		d.PendingKey, d.UpdatedAt = b.Key, b.At
		return true
	}
	if !d.Bound() {
		d.FirstKey, d.ProvisionedFrom = b.Key, b.From
	}
	if d.PendingKey == b.Key {
		d.PendingKey = trust.KeyHash{}
	}
	d.CurrentKey, d.Anchor, d.Issuer, d.UpdatedAt = b.Key, b.Anchor, b.Issuer, b.At
	return true
}

// Change is one entry of the change feed.
type Change struct {
	Kind   ChangeKind
	Hub    HubID
	Device DeviceID // zero unless Kind is DeviceChanged or SessionsChanged
}

// ChangeKind says what an entry of the change feed is about.
type ChangeKind uint8

// Kinds of change. Creation of a device is none: nobody caches its absence.
const (
	HubChanged         ChangeKind = iota + 1 // created, edited, deleted; covers its devices, which a deletion does not list
	DeviceChanged                            // edited, deleted
	LearnedChanged                           // an intermediate was learned
	SessionsChanged                          // a device's sessions, as AnnounceSessions tells
	RevocationsChanged                       // what is revoked on a hub
)

// Sink receives the change feed. Calls for one partition are made in order; the
// methods must not block.
type Sink interface {
	// Changed tells of one change.
	Changed(partition int, c Change)
	// Lost tells that entries of the partition may be missing (a gap, a store
	// that went back in time): whatever was cached of it is in doubt.
	Lost(partition int)
	// Fresh tells that all changes made in the partition before that moment
	// have been reported. What was read before the first call may be stale.
	Fresh(partition int, at time.Time)
}

// Update is one change of a device by an administrator.
type Update struct {
	Hub    HubID
	Device DeviceID
	// Change edits the record, UpdatedAt included; an error from it ends the
	// update and is returned. It may be called more than once.
	Change func(*Device) error
	// Event tells of the change; it is made from the record after it.
	Event func(Device) Event
}

// Put is a device to create or to edit, whichever it takes.
type Put struct {
	Name string
	// Merge returns what the device is to be, given what it is; nil if there is
	// none. ErrUnchanged leaves it as it is, another error refuses the put. What
	// identifies the device and its version are the store's to set. It may be
	// called more than once and does no I/O.
	Merge func(is *Device) (Device, error)
	// Event tells of an edit. A creation has no event: an import of a million
	// devices would push all others out of the outbox.
	Event func(before, after Device) Event
}

// ErrUnchanged ends an edit that has nothing to do.
var ErrUnchanged = errors.New("unchanged")

// PutOutcome is what became of a Put.
type PutOutcome uint8

// Outcomes of a Put.
const (
	PutRefused PutOutcome = iota
	PutUnchanged
	PutCreated
	PutUpdated
)

// PutResult tells what became of a Put, and why it was refused.
type PutResult struct {
	Outcome PutOutcome
	Err     error
}

// Merged makes the decision of a Put: the device to store, or the outcome if
// there is nothing to store. It is for stores.
func (p Put) Merged(hub HubID, is *Device) (Device, PutResult) {
	var given *Device
	if is != nil {
		clone := *is
		given = &clone
	}
	d, err := p.Merge(given)
	switch {
	case errors.Is(err, ErrUnchanged):
		return d, PutResult{Outcome: PutUnchanged}
	case err != nil:
		return d, PutResult{Err: err}
	}
	d.ID, d.Hub, d.Name = DeviceIDOf(hub, p.Name), hub, p.Name
	if is == nil {
		d.Version = 1
		return d, PutResult{Outcome: PutCreated}
	}
	d.Version = is.Version + 1
	return d, PutResult{Outcome: PutUpdated}
}

// Order is the order of a list of devices.
type Order uint8

// Orders.
const (
	ByName Order = iota
	ByCreation
)

// DeviceList says which devices to list.
type DeviceList struct {
	Order  Order
	Cursor string // "" = from the start
	Prefix string // of names; by name it costs nothing, by creation it is not allowed
	Limit  int
}

// Listed is a device in a list, and the cursor of what comes after it.
type Listed struct {
	Device
	After string
}

// Stored is an event in the outbox of a partition.
type Stored struct {
	// Seq numbers the events of a partition from 1, without gaps: a gap in
	// what is read means that retention took entries.
	Seq   uint64
	Event Event
}

// HubRegistry is what administration of hubs needs of a store, beyond Store.
type HubRegistry interface {
	// CreateHub stores a new hub with version 1, ErrExists if the name or ID
	// is taken.
	CreateHub(ctx context.Context, hub Hub, event Event) (Hub, error)
	// UpdateHub edits a stored hub and raises its version; ErrNotFound for a
	// declared one, ErrHubChanged for one being deleted. An error from
	// change ends the update and is returned; change may be called more than
	// once. An event without an ID is none. When it returns, no creation decided
	// before the change succeeds.
	UpdateHub(ctx context.Context, id HubID, change func(*Hub) error, event func(Hub) Event) (Hub, error)
	// DeleteHub removes the hub and everything of its own. Its first step
	// marks it as Deleting and appends the event, after which nothing is
	// created; a deletion that was cut short is finished by calling again. The
	// hub's name is free once it returns. Its events stay until retention
	// takes them.
	DeleteHub(ctx context.Context, id HubID, event Event) error
	// DeleteEmptyHub is DeleteHub for a hub that has no devices; ErrNotEmpty for
	// one that has, unless it is being deleted. No device is created in between.
	DeleteEmptyHub(ctx context.Context, id HubID, event Event) error
	// HubByName returns the hub of that name, ErrNotFound if there is none.
	HubByName(ctx context.Context, name string) (Hub, error)
	// UpdateRevocations edits what is revoked on a hub, stored or declared, in
	// one atomic step. It raises the versions that the hub's record in the store
	// has of that and of the whole: when it returns, no creation decided before
	// the change succeeds. An error from change ends the update and is returned;
	// change may be called more than once. It returns ErrNotFound if there is no
	// such hub, ErrHubChanged for one being deleted.
	UpdateRevocations(ctx context.Context, id HubID, change func(*Revocations) error, event func(Hub) Event) error
	// Forget removes an intermediate that the hub has learned, and reports
	// whether there was one of that fingerprint.
	Forget(ctx context.Context, hub HubID, intermediate trust.Fingerprint) (bool, error)
}

// DeviceRegistry is what administration of devices needs of a store, beyond
// Store.
type DeviceRegistry interface {
	// DeviceByID returns the device, ErrNotFound if there is none.
	DeviceByID(ctx context.Context, hub HubID, id DeviceID) (Device, error)
	// Devices returns up to limit devices after the cursor ("" = from the
	// start) and the cursor of the next page, "" at the end. A device that is
	// there from first page to last is listed exactly once.
	Devices(ctx context.Context, hub HubID, order Order, cursor string, limit int) ([]Device, string, error)
	// ListDevices is Devices that tells where each device is in the list.
	ListDevices(ctx context.Context, hub HubID, l DeviceList) ([]Listed, string, error)
	// CountDevices returns how many devices the hub has.
	CountDevices(ctx context.Context, hub HubID) (int, error)
	// AnchorDevices returns how many devices of the hub each anchor admitted
	// last, by its key. Those that are not bound are not in it. The numbers are
	// kept in the steps that change devices, so they are exact at any moment.
	AnchorDevices(ctx context.Context, hub HubID) (map[trust.KeyHash]int, error)
	// UpdateDevice edits the record and raises its version.
	UpdateDevice(ctx context.Context, u Update) (Device, error)
	// PutDevices creates or edits many devices of a hub, each in an atomic step,
	// in few round trips, and tells what became of each. It returns
	// ErrHubChanged if the hub is gone or being deleted. After an error some may
	// have been put; putting them again is no change if Merge says so.
	PutDevices(ctx context.Context, hub HubID, puts []Put) ([]PutResult, error)
	// DeleteDevice removes the device, ErrNotFound if there is none. The event
	// is made from the record as it last was.
	DeleteDevice(ctx context.Context, hub HubID, id DeviceID, event func(Device) Event) error
}

// Outbox is what readers of events need of a store.
type Outbox interface {
	// Events returns up to limit events of the partition after seq.
	Events(ctx context.Context, partition int, after uint64, limit int) ([]Stored, error)
	// LastEvent returns the seq of the partition's newest event, 0 if none.
	LastEvent(ctx context.Context, partition int) (uint64, error)
}
