package provision

import "time"

// SessionRefresh is how often an open session is put at least, whether bytes
// were seen or not: a store may forget one that was not put for twice as long,
// so that a fleet that vanished leaves nothing behind. Only who follows the
// Envoy knows that a silent connection is open, and one that was forgotten
// could not be ended.
const SessionRefresh = 12 * time.Hour

// Live reports whether the session counts: leased says whether its Envoy's lease
// holds.
func (s Session) Live(now time.Time, leased bool) bool {
	return s.Confirmed && leased || !s.Confirmed && now.Sub(s.Since) < PendingSession
}

// Kept reports whether a store keeps the session, live or not: known says
// whether its Envoy's lease held within KeptFor. A young session is kept in any
// case, so that one is not lost that is put before its Envoy's lease is renewed,
// and an unconfirmed one can be found by an Envoy that was cut off.
func (s Session) Kept(now time.Time, known bool) bool {
	return s.Confirmed && known || now.Sub(s.Since) < max(s.Envoy.KeptFor(), PendingSession)
}

// KeptFor is how long a store keeps the Envoy's sessions after its lease ran
// out. An Envoy without the library never asks for them.
func (e EnvoyID) KeptFor() time.Duration {
	if e.HasLibrary() {
		return LostEnvoyKept
	}
	return 0
}
