package sessions

import (
	"testing"
)

// site is a hubgate on one store, with an Envoy of its own before a broker and
// a backend.
type site struct {
	*hubgate
	edge   *edge
	config edgeConfig
}

func newSite(t testing.TB, open storage) *site {
	t.Helper()
	h := startHubgate(t, open)
	c := edgeConfig{authz: h.authz, link: h.link, broker: startBroker(t, ownTopics), backend: startBackend(t)}
	return &site{h, startEdge(t, c), c}
}

// stories are what has to be true on every store. Each has hubs of its own and
// runs beside the others.
var stories = []struct {
	name string
	tell func(*testing.T, *site)
}{
	{"identity at the broker", identityAtTheBroker},
	{"paho", pahoClient},
	{"CONNECT byte by byte", byteByByte},
	{"never-seen intermediate", neverSeenIntermediate},
	{"ending MQTT", endingMQTT},
	{"ending HTTP", endingHTTP},
	{"disabled before it registers", disabledBeforeItRegisters},
	{"revocation", revocation},
	{"revocation lists", revocationLists},
	{"revoked before it registers", revokedBeforeItRegisters},
	{"chain expires", chainExpires},
	{"connected elsewhere", connectedElsewhere},
	{"without the library", withoutTheLibrary},
	{"without TLS", withoutTLS},
	{"custom certificates", customCertificates},
	{"the SDK's story", theSDKsStory},
}

func TestStores(t *testing.T) {
	t.Parallel()
	for name, on := range storages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, on(t))
			for _, story := range stories {
				t.Run(story.name, func(t *testing.T) {
					t.Parallel()
					story.tell(t, s)
				})
			}
		})
	}
}
