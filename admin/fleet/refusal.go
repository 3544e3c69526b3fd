package fleet

import (
	"errors"
	"fmt"

	"github.com/hubgate/hubgate/provision"
)

// Kinds of refusals, for errors.Is.
var (
	// ErrInvalid: what was asked for makes no sense, whatever there is.
	ErrInvalid = errors.New("invalid")
	// ErrConflict: it does not go with what there is.
	ErrConflict = errors.New("conflict")
)

// Code is what is wrong with a request, for programs. Codes are never renamed.
type Code string

// The codes.
const (
	Invalid  Code = "invalid"
	Conflict Code = "conflict"
	// Declared: the hub is declared in a file, and can be changed only there.
	Declared Code = "declared"
	// InUse: devices depend on it. Refusal.Devices says how many.
	InUse Code = "in_use"
	// NoAnchor: auto-provisioning needs a trust anchor.
	NoAnchor Code = "no_anchor"
	// LastAnchor: auto-provisioning is on, and this is the last anchor.
	LastAnchor Code = "last_anchor"
	Exists     Code = "exists"

	// What is wrong with a certificate that is to be a trust anchor.
	NotACA                 Code = "not_a_ca"
	Expired                Code = "expired"
	NotYetValid            Code = "not_yet_valid"
	KeyUnsupported         Code = "key_unsupported"
	ConstraintsUnsupported Code = "constraints_unsupported"
	AnchorRelated          Code = "anchor_related"
	TooMany                Code = "too_many"

	// What is wrong with the proof that its key is the owner's.
	ChallengeMissing     Code = "challenge_missing"
	ChallengeWrongName   Code = "challenge_wrong_name"
	ChallengeNotSigned   Code = "challenge_not_signed_by_anchor"
	ChallengeExpired     Code = "challenge_expired"
	ChallengeNotYetValid Code = "challenge_not_yet_valid"
	ChallengeTooLong     Code = "challenge_too_long"

	// Outdated: a CRL that is older than the one in force.
	Outdated Code = "outdated"
	// NotUsable: a CRL, or a certificate that cannot be an intermediate of the hub.
	NotUsable Code = "not_usable"
)

// Refusal is an act that was not done because of what was asked for. Its text
// is made for whoever asked.
type Refusal struct {
	Kind error // ErrInvalid or ErrConflict
	Code Code
	// Field is what of the request is to blame, "" if nothing alone is.
	Field   string
	Message string
	// Devices is how many devices are in the way, where they are.
	Devices int
}

// Error returns the message.
func (r *Refusal) Error() string { return r.Message }

// Unwrap returns the kind.
func (r *Refusal) Unwrap() error { return r.Kind }

func invalid(field, format string, args ...any) error {
	return invalidBy(Invalid, field, format, args...)
}

func invalidBy(code Code, field, format string, args ...any) error {
	return &Refusal{Kind: ErrInvalid, Code: code, Field: field, Message: fmt.Sprintf(format, args...)}
}

func conflict(code Code, format string, args ...any) error {
	return &Refusal{Kind: ErrConflict, Code: code, Message: fmt.Sprintf(format, args...)}
}

// declared refuses to change a hub that a file declares.
func declared(h provision.Hub) error {
	return conflict(Declared, "hub %s is declared in %s: change it there", h.Name, h.Declared)
}
