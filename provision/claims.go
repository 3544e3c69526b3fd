package provision

import "context"

// MaxClaims bounds a hub's claim list.
const MaxClaims = 1_000_000

// Claim is a name on a hub's claim list.
type Claim struct {
	Name string
	// Used: a first connection that needed the claim has created a device of
	// that name. It stays so when the device is deleted.
	Used bool
}

// Claims is what administration of claim lists needs of a store. A hub's claim
// list holds the names of devices that may create themselves on it; rules of
// admission (ClaimPolicy) say whose first connections need one. It goes with its
// hub.
type Claims interface {
	// PutClaims puts names on the list, in one atomic step, and returns how many
	// are new. One that is on it stays as it is, used or not. It returns
	// ErrTooManyClaims, and puts none, if the list would have more than
	// MaxClaims, ErrHubChanged if the hub is gone or being deleted.
	PutClaims(ctx context.Context, hub HubID, names []string) (added int, err error)
	// RemoveClaims takes names off the list, in one atomic step, and returns how
	// many were on it. Put on it again, a name is not used.
	RemoveClaims(ctx context.Context, hub HubID, names []string) (removed int, err error)
	// ListClaims returns a page of some limit claims, in no order, after the
	// cursor ("" = from the start), and the cursor of the next page, "" at the
	// end. A claim that is there from first page to last is listed, perhaps
	// twice where claims came or went meanwhile.
	ListClaims(ctx context.Context, hub HubID, cursor string, limit int) ([]Claim, string, error)
	// CountClaims returns how many names are on the list.
	CountClaims(ctx context.Context, hub HubID) (int, error)
	// ClearClaims takes all names off the list. It may take several steps, and
	// is finished by calling again if it was cut short.
	ClearClaims(ctx context.Context, hub HubID) error
}
