package provision

import (
	"fmt"
	"strings"
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
		return finding{DeviceProvisioned, firstConnection(f)}
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

// firstConnection says what an explained check found out, and what it leaves open:
// it takes no token of the rate and asks no hook.
func firstConnection(f *Facts) string {
	text := "first connection"
	var open []string
	switch {
	case f.Rules.claim(f.Identity.Anchor) == NoClaims:
	case f.Creatable:
		text += ", as the hub's claim list has the name"
	default:
		open = append(open, "the hub's claim list has the name")
	}
	if n := f.Hub.Policy.FirstConnectionsPerSecond; n > 0 {
		open = append(open, fmt.Sprintf("it is one of the hub's first %d in that second, which only the connection itself can tell", n))
	}
	if hooks := f.Rules.hooks(f.Identity.Anchor); len(hooks) > 0 {
		open = append(open, strings.Join(hooks, " and ")+" allows it")
	}
	if len(open) == 0 {
		return text
	}
	return text + ", if " + strings.Join(open, ", and if ")
}
