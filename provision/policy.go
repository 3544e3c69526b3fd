package provision

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"regexp/syntax"
	"slices"
	"time"

	"github.com/hubgate/hubgate/trust"
)

// Policy is what a hub's owner decides beyond whom to trust. The zero Policy is
// the default.
type Policy struct {
	// Connections says what becomes of the second connection of a device that
	// may hold one.
	Connections ConnectionPolicy
	// Keys says what becomes of a known device that comes with another key.
	Keys KeyPolicy
	// Revocation says what becomes of a certificate for which there should be a
	// revocation list and is none that is current.
	Revocation RevocationPolicy
	// Admission are the rules that an unseen device has to meet, all of them,
	// beyond a chain that verifies. Known devices are never held to them.
	Admission []AdmissionRule
	// CustomCertificates lets devices in with the certificate that an administrator
	// gave them (Device.Custom), though it verifies under no anchor of the hub. It
	// holds where the listener or SNI names the hub. Whoever presents a chain there
	// that does not verify then costs a look-up of a device.
	CustomCertificates bool
	// MaxDevices bounds the devices of the hub: beyond it none creates itself. 0:
	// DefaultMaxDevices.
	MaxDevices int
	// FirstConnectionsPerSecond bounds how many devices create themselves, on
	// all replicas together. 0: no bound.
	FirstConnectionsPerSecond int
	// MaxSessionAge ends a connection that is older. 0: none is too old.
	MaxSessionAge time.Duration
	// NoOutage refuses known devices, too, while the store does not answer.
	NoOutage bool
	// Newer is the stored policy if a newer version of hubgate wrote something
	// in it that this one does not know. It survives a rewrite; the hub does not
	// serve here, as what is not known may be what keeps somebody out.
	Newer []byte
}

// servesOutages reports whether known devices are let in while the store does not
// answer: never where nobody can then tell whether one is connected already.
func (p Policy) servesOutages() bool { return !p.NoOutage && p.Connections != Reject }

// ConnectionPolicy is what becomes of the second connection of a device.
type ConnectionPolicy string

// Connection policies.
const (
	// Takeover ends the older connection.
	Takeover ConnectionPolicy = "takeover"
	// Reject refuses the newer one.
	Reject ConnectionPolicy = "reject"
)

// KeyPolicy is what becomes of a known device that comes with another key, under
// the anchor that admitted it.
type KeyPolicy string

// Key policies.
const (
	// AcceptKeys lets it in.
	AcceptKeys KeyPolicy = "accept"
	// PinKeys refuses it.
	PinKeys KeyPolicy = "pin"
	// ApproveKeys refuses it until an operator has approved the key.
	ApproveKeys KeyPolicy = "approve"
)

// RevocationPolicy is what becomes of a certificate whose revocation cannot be
// told.
type RevocationPolicy string

// Revocation policies.
const (
	// AllowUnlisted takes it for good.
	AllowUnlisted RevocationPolicy = "allow"
	// RefuseUnlisted takes it for revoked.
	RefuseUnlisted RevocationPolicy = "refuse"
)

// ClaimPolicy is what a rule makes of the hub's claim list.
type ClaimPolicy string

// Claim policies.
const (
	// NoClaims leaves the list alone.
	NoClaims ClaimPolicy = ""
	// ClaimListed admits names that are on the list.
	ClaimListed ClaimPolicy = "listed"
	// ClaimOnce admits each name of the list once: a device that was deleted
	// does not create itself again.
	ClaimOnce ClaimPolicy = "once"
)

// AdmissionRule is one rule for unseen devices. Everything it says has to be
// met.
type AdmissionRule struct {
	// Anchor is the key of the anchor whose devices the rule is for; zero: of
	// every anchor.
	Anchor trust.KeyHash
	// NamePattern is a regular expression (RE2 syntax) that the whole name has
	// to match. "": any name.
	NamePattern string
	// Issuer is the key of the CA that has to have issued the leaf. Zero: any.
	Issuer trust.KeyHash
	// Claims is what the hub's claim list has to say of the name.
	Claims ClaimPolicy
	// Hook is the https URL that is asked. "": none.
	Hook string
}

const (
	// DefaultMaxDevices bounds a hub that has no bound of its own.
	DefaultMaxDevices = 1_000_000
	// MaxDevicesLimit is the highest bound of a hub, which is in one shard.
	MaxDevicesLimit = 100_000_000
	// MaxFirstConnections is the highest bound per second.
	MaxFirstConnections = 100_000
	// MinSessionAge is the lowest bound of a connection's age.
	MinSessionAge = time.Minute
	// MaxAdmissionRules bounds the rules of a hub.
	MaxAdmissionRules = 16
	// MaxNamePattern bounds the bytes of each pattern.
	MaxNamePattern = 512
	// MaxNamePatternSize bounds the instructions that each pattern is compiled to,
	// as a few bytes that repeat may be many: (a{100}){10} is a thousand. In the
	// worst case each is looked at for each character of a name.
	MaxNamePatternSize = 2000
	// MaxHookURL bounds the bytes of each hook's URL.
	MaxHookURL = 1024
)

// Normal returns the policy with defaults left out, so that equal policies are
// equal values.
func (p Policy) Normal() Policy {
	if p.Connections == Takeover {
		p.Connections = ""
	}
	if p.Keys == AcceptKeys {
		p.Keys = ""
	}
	if p.Revocation == AllowUnlisted {
		p.Revocation = ""
	}
	if p.MaxDevices == DefaultMaxDevices {
		p.MaxDevices = 0
	}
	if len(p.Admission) == 0 {
		p.Admission = nil
	}
	return p
}

// Full returns the policy with the defaults written out, for people to read.
func (p Policy) Full() Policy {
	if p.Connections == "" {
		p.Connections = Takeover
	}
	if p.Keys == "" {
		p.Keys = AcceptKeys
	}
	if p.Revocation == "" {
		p.Revocation = AllowUnlisted
	}
	if p.MaxDevices == 0 {
		p.MaxDevices = DefaultMaxDevices
	}
	return p
}

// Equal reports whether two policies say the same.
func (p Policy) Equal(o Policy) bool {
	a, b := p.Normal(), o.Normal()
	return a.Connections == b.Connections && a.Keys == b.Keys && a.Revocation == b.Revocation && a.MaxDevices == b.MaxDevices &&
		a.FirstConnectionsPerSecond == b.FirstConnectionsPerSecond && a.MaxSessionAge == b.MaxSessionAge && a.NoOutage == b.NoOutage &&
		a.CustomCertificates == b.CustomCertificates &&
		slices.Equal(a.Admission, b.Admission) && bytes.Equal(a.Newer, b.Newer)
}

// CheckPolicy reports what makes a policy unusable: a *SettingError.
func CheckPolicy(p Policy) error {
	wrong := func(field, format string, args ...any) error {
		return &SettingError{"policy." + field, fmt.Sprintf(format, args...)}
	}
	p = p.Full()
	switch {
	case p.Newer != nil:
		return &SettingError{"policy", "was set by a newer version of hubgate, which knows more rules than this one"}
	case p.Connections != Takeover && p.Connections != Reject:
		return wrong("connections", "%q is neither takeover nor reject", p.Connections)
	case p.Keys != AcceptKeys && p.Keys != PinKeys && p.Keys != ApproveKeys:
		return wrong("keys", "%q is none of accept, pin and approve", p.Keys)
	case p.Revocation != AllowUnlisted && p.Revocation != RefuseUnlisted:
		return wrong("revocation", "%q is neither allow nor refuse", p.Revocation)
	case p.MaxDevices < 1 || p.MaxDevices > MaxDevicesLimit:
		return wrong("max_devices", "%d is not from 1 to %d", p.MaxDevices, MaxDevicesLimit)
	case p.FirstConnectionsPerSecond < 0 || p.FirstConnectionsPerSecond > MaxFirstConnections:
		return wrong("first_connections_per_second", "%d is not from 0 (no bound) to %d", p.FirstConnectionsPerSecond, MaxFirstConnections)
	case p.MaxSessionAge != 0 && p.MaxSessionAge < MinSessionAge:
		return wrong("max_session_age", "%s is less than %s", p.MaxSessionAge, MinSessionAge)
	case len(p.Admission) > MaxAdmissionRules:
		return wrong("admission", "there are %d rules, more than %d", len(p.Admission), MaxAdmissionRules)
	}
	for i, r := range p.Admission {
		if err := checkRule(r); err != nil {
			return wrong(fmt.Sprintf("admission[%d]", i), "%s", err)
		}
	}
	return nil
}

func checkRule(r AdmissionRule) error {
	bare := r
	bare.Anchor = trust.KeyHash{}
	if bare == (AdmissionRule{}) {
		return errors.New("the rule asks for nothing: give it a name_pattern, an issuer, claims or a hook")
	}
	switch r.Claims {
	case NoClaims, ClaimListed, ClaimOnce:
	default:
		return fmt.Errorf("claims: %q is neither listed nor once", r.Claims)
	}
	if _, err := compileNamePattern(r.NamePattern); err != nil {
		return fmt.Errorf("name_pattern: %w", err)
	}
	return checkHookURL(r.Hook)
}

// compileNamePattern compiles a pattern so that it has to match all of a name;
// nil for none.
func compileNamePattern(pattern string) (*regexp.Regexp, error) {
	switch {
	case pattern == "":
		return nil, nil //nolint:nilnil // no pattern is none
	case len(pattern) > MaxNamePattern:
		return nil, fmt.Errorf("has %d bytes, more than %d", len(pattern), MaxNamePattern)
	}
	// By itself first: what is no expression alone must not become one by what
	// is put around it.
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("%q is no regular expression (RE2): %w", pattern, err)
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, fmt.Errorf("%q does not compile: %w", pattern, err)
	}
	if n := len(program.Inst); n > MaxNamePatternSize {
		return nil, fmt.Errorf("%q is compiled to %d instructions, more than %d: repeat less", pattern, n, MaxNamePatternSize)
	}
	return regexp.Compile(`\A(?:` + pattern + `)\z`)
}

func checkHookURL(hook string) error {
	if hook == "" {
		return nil
	}
	u, err := url.Parse(hook)
	switch {
	case len(hook) > MaxHookURL:
		return fmt.Errorf("hook: has %d bytes, more than %d", len(hook), MaxHookURL)
	case err != nil || u.Scheme != "https" || u.Host == "" || u.Hostname() == "":
		return fmt.Errorf("hook: %q is no https URL", hook)
	case u.User != nil:
		return errors.New("hook: a URL is shown to whoever sees the hub, so it has no user and password in it")
	case u.Fragment != "":
		return fmt.Errorf("hook: %q has a fragment, which is never sent", hook)
	}
	return nil
}
