package provision

import (
	"context"
	"fmt"
	"strings"
)

// Credentials are what a device presents on a connection without TLS. Nothing
// behind the edge ever holds the secret itself.
type Credentials struct {
	// User is `<hub>/<device>`: the hub's name or ID, and the device's name.
	// Hub and slash may be left out where Envoy's configuration names the hub.
	User   string
	Secret SecretHash // of what was presented
}

// insecureSteps is the decision table of a connection without TLS. Nothing is
// created or bound there, and only a device that an operator allowed it gets in,
// by its secret. A device ID follows from the name, so it proves nothing.
var insecureSteps = []step{
	{"credentials presented", credentialed},
	{"hub found", hubFound},
	{"hub enabled", hubEnabled},
	{"device named", deviceNamed},
	{"secret", secretProved},
	{"one connection at a time", oneConnection},
}

func credentialed(f *Facts, _ *Decision) finding {
	c := &f.Connection
	switch {
	case c.Problem != nil:
		return finding{c.Problem.Reason, c.Problem.Detail}
	case c.Credentials == nil:
		return finding{NoCertificate, "the connection is not TLS, and brought no credentials"}
	}
	return finding{detail: fmt.Sprintf("%s without TLS, user name %q", c.Protocol, c.Credentials.User)}
}

func deviceNamed(f *Facts, d *Decision) finding {
	if CheckDeviceName(f.UserDevice, f.Hub.UnicodeNames) != nil {
		return finding{InsecureNotAllowed, fmt.Sprintf("the user name names device %q, which is no name of a device", f.UserDevice)}
	}
	d.DeviceName, d.Device = f.UserDevice, DeviceIDOf(f.Hub.ID, f.UserDevice)
	return finding{detail: f.UserDevice}
}

// secretProved answers a device that does not exist as one that may not connect
// like this, so that strangers cannot find out which there are.
func secretProved(f *Facts, d *Decision) finding {
	switch {
	case !f.Looked:
		return finding{}
	case f.StoreErr != nil:
		return finding{StoreUnavailable, f.StoreErr.Error()}
	case f.Device == nil:
		detail := fmt.Sprintf("the user name names device %q, which the hub does not know", d.DeviceName)
		d.Device, d.DeviceName = DeviceID{}, ""
		return finding{InsecureNotAllowed, detail}
	case !f.Device.AllowInsecure:
		return finding{InsecureNotAllowed, "the device may not connect without TLS: allow_insecure is off"}
	case f.Device.Secret.IsZero():
		return finding{SecretInvalid, "the device has no secret"}
	case !f.Connection.Credentials.Secret.Proves(f.Device.Secret):
		return finding{SecretInvalid, "it is not the device's secret"}
	case f.Device.Disabled:
		return finding{DeviceDisabled, "an operator disabled the device"}
	}
	return finding{DeviceKnown, "known device, by its secret"}
}

// findInsecure finds the hub of a connection without TLS, by hint or else by its
// user name, and the name of its device. That no such hub exists is told in the
// reason of devices that do not.
func (g *Gate) findInsecure(ctx context.Context, f *Facts) *liveHub {
	c := &f.Connection
	if c.Problem != nil || c.Credentials == nil {
		return nil
	}
	label, name, ok := strings.Cut(c.Credentials.User, "/")
	if !ok {
		label, name = "", c.Credentials.User
	}
	f.UserDevice, f.HubFrom = name, "user name"
	h := g.usableNamed(ctx, label)
	switch {
	case c.HubHint != "":
		named := h
		f.HubFrom = "hint"
		if h = g.usableNamed(ctx, c.HubHint); h == nil {
			f.NoHub = Problem{HubUnknown, fmt.Sprintf("Envoy's configuration names hub %q, which does not exist", c.HubHint)}
		} else if label != "" && named != h {
			f.NoHub = Problem{InsecureNotAllowed, fmt.Sprintf("the user name names hub %q, which is not the listener's", label)}
			h = nil
		}
	case label == "":
		f.NoHub = Problem{InsecureNotAllowed, "the user name names no hub: it has to be <hub>/<device>"}
	case h == nil:
		f.NoHub = Problem{InsecureNotAllowed, fmt.Sprintf("the user name names hub %q, which does not exist", label)}
	}
	if h == nil {
		if err := g.Ready(); err != nil { // hubs may be missing
			f.NoHub = Problem{StoreUnavailable, err.Error()}
		}
		return nil
	}
	current, err := g.readThrough(ctx, h, f.Now)
	switch {
	case err != nil:
		f.NoHub = Problem{StoreUnavailable, err.Error()}
	case current == nil:
		f.NoHub = Problem{InsecureNotAllowed, fmt.Sprintf("hub %s was deleted", h.Name)}
	default:
		g.checkAuthority(current, f)
	}
	return current
}
