// Package access says who asks something of the administration and what they
// may do: roles, project scopes, tokens.
//
// It knows no HTTP, so that whoever administers, over the local socket, the
// native API or the Scaleway-compatible one, is judged by the same rules. The
// acts themselves (package fleet) ask for a role; listings leave out what a
// principal does not see.
package access

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
)

// ErrDenied says that the principal may not do that. What it may not even see
// is not found instead: see Principal.Sees.
var ErrDenied = errors.New("denied")

// Role is what a principal may do; each role may do all that a lesser one may.
type Role uint8

// The roles. The zero value may do nothing.
const (
	// Viewer reads everything but secrets.
	Viewer Role = iota + 1
	// Operator looks after devices and sessions, and turns hubs and their
	// auto-provisioning on and off.
	Operator
	// Admin does everything: hubs, trust anchors, tokens, backups.
	Admin
)

var roleNames = [...]string{Viewer: "viewer", Operator: "operator", Admin: "admin"}

// String is the role's name, as configuration and API write it.
func (r Role) String() string {
	if r < Viewer || r > Admin {
		return fmt.Sprintf("role %d", uint8(r))
	}
	return roleNames[r]
}

// ParseRole reads a role's name.
func ParseRole(name string) (Role, error) {
	for r := Viewer; r <= Admin; r++ {
		if roleNames[r] == name {
			return r, nil
		}
	}
	return 0, fmt.Errorf("role %q is none of viewer, operator, admin", name)
}

// Principal is who asks.
type Principal struct {
	// Name is for logs and people: a token's name, or "local" for whoever
	// opened the local socket.
	Name string
	Role Role
	// Project limits the principal to the hubs of one project. The zero UUID:
	// every project.
	Project uuid.UUID
	// TokenID is the stored token; "" for the local socket and for tokens of
	// the configuration.
	TokenID string
}

// Local is whoever opened the local socket, which the file system guards.
func Local() Principal { return Principal{Name: "local", Role: Admin} }

// Identity is whose allowances a principal uses: those of its token, whatever
// its secret is now.
func (p Principal) Identity() string {
	if p.TokenID != "" {
		return p.TokenID
	}
	return "configured " + p.Name
}

// Sees tells whether hubs of the project exist for the principal. One of a
// project that it does not see is not found, never denied: what other tenants
// have is not its business.
func (p Principal) Sees(project uuid.UUID) bool {
	return p.Role >= Viewer && (p.Project == uuid.Nil || p.Project == project)
}

// Need returns an error that wraps ErrDenied unless the principal has the role
// or a greater one.
func (p Principal) Need(r Role) error {
	if p.Role >= Viewer && p.Role >= r {
		return nil
	}
	return fmt.Errorf("%w: this takes the role %s, and %q has %s", ErrDenied, r, p.Name, p.Role)
}

// NeedEverywhere is Need for what concerns all projects: tokens, backups,
// waivers of a proof. A principal of one project is denied.
func (p Principal) NeedEverywhere(r Role) error {
	if err := p.Need(r); err != nil {
		return err
	}
	if p.Project != uuid.Nil {
		return fmt.Errorf("%w: this concerns all projects, and %q is limited to one", ErrDenied, p.Name)
	}
	return nil
}

type key struct{}

// With returns a context that carries the principal.
func With(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, key{}, p)
}

// From returns the principal that With put there. Without one, the zero
// Principal, which may do nothing.
func From(ctx context.Context) (Principal, bool) {
	p, ok := ctx.Value(key{}).(Principal)
	return p, ok
}
