package config

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hubgate/hubgate/provision"
)

// CRL says how hubs' certificate revocation lists are got.
type CRL struct {
	// Refresh is how often a source of them is asked, at least. 0: the default.
	Refresh time.Duration
	// Networks are where addresses set through the API may lead besides public
	// ones.
	Networks []netip.Prefix
}

func (l *loader) crl(top *section) CRL {
	s := top.sub("crl", "refresh", "networks")
	return CRL{
		Refresh:  s.duration("refresh", time.Second, 24*time.Hour),
		Networks: l.networks(s, "networks"),
	}
}

// crlSources reads where a hub's lists come from. Files are not looked into: that
// one is missing or broken now says nothing about the hub.
func (l *loader) crlSources(s *section) []string {
	items, _ := s.items("crls")
	if len(items) > provision.MaxCRLSources {
		s.problem("crls", "%d of them are too many: %d are possible", len(items), provision.MaxCRLSources)
		return nil
	}
	var all []string
	for _, i := range items {
		source := i.value
		if strings.Contains(source, "://") {
			if err := provision.CheckCRLURL(source); err != nil {
				l.add(i.line, i.key, "%s; a file is named by its path", err)
				continue
			}
		} else {
			source = l.resolve(source)
		}
		if slices.Contains(all, source) {
			l.add(i.line, i.key, "%s is there twice", i.value)
			continue
		}
		all = append(all, source)
	}
	return all
}
