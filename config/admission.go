package config

import (
	"crypto/x509"
	"net/netip"

	"github.com/hubgate/hubgate/events/endpoint"
)

// Admission says how the hooks of hubs' admission rules are asked.
type Admission struct {
	// HookCA verifies the hooks; "": the system's authorities.
	HookCA string
	// HookSecretFile signs what they are asked; "": it is not signed.
	HookSecretFile string
	// HookNetworks are where hooks may be besides public addresses.
	HookNetworks []netip.Prefix
}

// maxHookNetworks is more networks than anybody has.
const maxHookNetworks = 64

func (l *loader) admission(top *section) Admission {
	s := top.sub("admission", "hook_ca_file", "hook_secret_file", "hook_networks")
	a := Admission{
		HookSecretFile: l.secretFile(s, "hook_secret_file", func(text string) error {
			_, err := endpoint.Secrets(text)
			return err
		}),
	}
	if file := s.str("hook_ca_file"); file != "" {
		a.HookCA = l.resolve(file)
		data, err := l.read(a.HookCA)
		switch {
		case err != nil:
			s.problem("hook_ca_file", "%s: %s", file, plain(err))
		case !x509.NewCertPool().AppendCertsFromPEM(data):
			s.problem("hook_ca_file", "%s holds no certificate in PEM form", file)
		}
	}
	networks, _ := s.items("hook_networks")
	if len(networks) > maxHookNetworks {
		s.problem("hook_networks", "%d of them are too many: %d are possible", len(networks), maxHookNetworks)
		return a
	}
	for _, n := range networks {
		p, err := netip.ParsePrefix(n.value)
		if err != nil || p != p.Masked() || p.Addr().Is4In6() {
			l.add(n.line, n.key, "%q is no network: write its first address and its length, such as 10.1.0.0/16", n.value)
			continue
		}
		a.HookNetworks = append(a.HookNetworks, p)
	}
	return a
}
