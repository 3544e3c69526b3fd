package provision

import (
	"strings"

	"github.com/hubgate/hubgate/trust"
)

// unseenDevice is step 8 of the design: whether a device that the hub does not
// know may be created. Rules are for this moment alone; once it is known, a
// device is never held to them.
func unseenDevice(f *Facts) finding {
	if !f.Hub.AutoProvisioning {
		return finding{DeviceUnknown, "the device is unknown and auto-provisioning is off on this hub"}
	}
	if why := f.Rules.refusal(f.Identity); why != "" {
		return finding{DeviceNotAllowed, why}
	}
	switch {
	case f.Connection.DryRun:
		return finding{DeviceProvisioned, f.Rules.firstConnection(f.Identity.Anchor)}
	case len(f.Rules.hooks(f.Identity.Anchor)) == 0:
	case f.Asked == nil:
		return finding{}
	case f.Asked.Err != nil:
		return finding{HookUnavailable, f.Asked.Err.Error()}
	case !f.Asked.Allow:
		return finding{HookDenied, f.Asked.Message}
	}
	return finding{DeviceProvisioned, "first connection"}
}

// firstConnection says what an explained check leaves open: it uses no claim and
// asks nobody.
func (r *Rules) firstConnection(anchor trust.KeyHash) string {
	text := "first connection"
	if r.claim(anchor) != NoClaims {
		text += ", if the hub's claim list has the name"
	}
	if hooks := r.hooks(anchor); len(hooks) > 0 {
		text += ", if " + strings.Join(hooks, " and ") + " allows it"
	}
	return text
}
