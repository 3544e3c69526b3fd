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

// maxNetworks is more networks than anybody has.
const maxNetworks = 64

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
	a.HookNetworks = l.networks(s, "hook_networks")
	return a
}

// networks returns a list of networks.
func (l *loader) networks(s *section, key string) []netip.Prefix {
	items, _ := s.items(key)
	if len(items) > maxNetworks {
		s.problem(key, "%d of them are too many: %d are possible", len(items), maxNetworks)
		return nil
	}
	var all []netip.Prefix
	for _, n := range items {
		p, err := netip.ParsePrefix(n.value)
		if err != nil || p != p.Masked() || p.Addr().Is4In6() {
			l.add(n.line, n.key, "%q is no network: write its first address and its length, such as 10.1.0.0/16", n.value)
			continue
		}
		all = append(all, p)
	}
	return all
}
