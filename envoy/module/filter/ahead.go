package filter

import (
	"crypto/sha256"
	"encoding/base64"

	"github.com/hubgate/hubgate/envoy/module/mqtt"
)

// maxUserName bounds the user name that hubgate is told, in bytes: a hub, a
// slash and a device's name are shorter.
const maxUserName = 512

// ahead collects the CONNECT on a listener without TLS, before hubgate is asked,
// and has Envoy tell it the credentials: of the password only a hash, as it is a
// secret that Envoy could log. The password goes no further.
func (f *Filter) ahead(h Hook, end bool) Action {
	packet, rest, action := f.collect(h, end)
	if packet == nil {
		return action
	}
	trip(packet)
	c, err := mqtt.Parse(packet)
	if err != nil {
		return f.refuse(err)
	}
	f.version = c.Version
	if len(c.UserName) > 0 && len(c.UserName) <= maxUserName && c.Password != nil {
		hash := sha256.Sum256(c.Password)
		encode := base64.RawURLEncoding.EncodeToString
		h.Remember(CredentialsState, encode(c.UserName)+"."+encode(hash[:]))
	}
	c.Password = nil
	written, err := c.Append(nil)
	if err != nil {
		return f.refuse(err)
	}
	// The session's filter, after the check, looks at all of it again.
	f.phase, f.pending = open, nil
	f.shared.Device, f.shared.Broker = Pass, Pass
	return Action{Take: true, Put: append(written, rest...)}
}
