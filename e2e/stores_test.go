package e2e

import (
	"crypto/x509"
	"testing"

	"github.com/hubgate/hubgate/internal/pki"
)

// stories are what has to be true on every store. Each has hubs and devices of
// its own and runs beside the others.
var stories = []struct {
	name string
	tell func(*testing.T, *world)
}{
	{"first connection", firstConnection},
	{"the CA is sent", caSent},
	{"missing intermediate", missingIntermediate},
	{"declared intermediate", declaredIntermediate},
	{"keys and algorithms", keysAndAlgorithms},
	{"chain shapes", chainShapes},
	{"toggle and ban", toggleAndBan},
	{"quota", quota},
	{"rate of first connections", rate},
	{"claim list", claimList},
	{"two hubs on one port", twoHubs},
	{"no way into another hub", noWayIntoAnotherHub},
	{"look-alike CAs", lookAlikes},
	{"forged headers", forgedHeaders},
	{"resumption", resumption},
	{"200 first connections at once", simultaneous},
	{"admission rules", admissionRules},
	{"admission hooks", admissionHooks},
	{"hub disabled while its hook is asked", hookDuringChange},
	{"key policies", keyPolicies},
	{"bad leaf", badLeaf},
	{"bad chain", badChain},
	{"bad request", badRequest},
}

func TestStores(t *testing.T) {
	t.Parallel()
	u := startUpstreams(t)
	for name, open := range map[string]func(*testing.T) store{"bolt": openBolt, "redis": openRedis} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, open(t), u)
			for _, story := range stories {
				t.Run(story.name, func(t *testing.T) {
					t.Parallel()
					story.tell(t, w)
				})
			}
		})
	}
}

// vendor makes chips: a root, whose owner installs it on a hub, and the line
// that signs leaves.
type vendor struct{ root, line *pki.Authority }

func newVendor(t *testing.T) *vendor {
	t.Helper()
	root := must(pki.NewRoot("Vendor Root " + t.Name()))(t)
	return &vendor{root, must(root.Intermediate("Vendor Line " + t.Name()))(t)}
}

func (v *vendor) device(t *testing.T, name string, options ...pki.Option) *pki.Identity {
	t.Helper()
	return must(v.line.Leaf(name, options...))(t)
}

// chain is a device that presents exactly these certificates after its leaf.
func chain(identity *pki.Identity, certs ...*x509.Certificate) dial {
	return dial{cert: identity.TLSWith(certs...)}
}
