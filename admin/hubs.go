package admin

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/provision"
)

// Hub is a hub as the API shows it.
type Hub struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// DeclaredIn is the file that declares the hub; only there can it be
	// changed. Empty for a stored hub.
	DeclaredIn       string        `json:"declared_in,omitempty"`
	Enabled          bool          `json:"enabled"`
	AutoProvisioning bool          `json:"auto_provisioning"`
	SNIOnly          bool          `json:"sni_only"`
	UnicodeNames     bool          `json:"unicode_names"`
	TrustAnchors     []Certificate `json:"trust_anchors"`
	Intermediates    []Certificate `json:"intermediates"`
	Devices          int           `json:"devices"`
}

// Hubs is a list of hubs.
type Hubs struct {
	Hubs []Hub `json:"hubs"`
}

// Certificate is what tells one certificate from another.
type Certificate struct {
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Serial    string    `json:"serial"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	// Fingerprint is the SHA-256 of the whole certificate.
	Fingerprint string `json:"fingerprint_sha256"`
}

func certificate(c *x509.Certificate) Certificate {
	sum := sha256.Sum256(c.Raw)
	return Certificate{
		Subject:     c.Subject.String(),
		Issuer:      c.Issuer.String(),
		Serial:      hex.EncodeToString(c.SerialNumber.Bytes()),
		NotBefore:   c.NotBefore.UTC(),
		NotAfter:    c.NotAfter.UTC(),
		Fingerprint: hex.EncodeToString(sum[:]),
	}
}

// certificates shows a list of DER. The gate serves hubs whose certificates
// parse, and no others.
func certificates(ders [][]byte) ([]Certificate, error) {
	all := make([]Certificate, len(ders))
	for i, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", i+1, err)
		}
		all[i] = certificate(c)
	}
	return all, nil
}

func (s *Server) showHub(r *http.Request, h provision.Hub) (Hub, error) {
	anchors, err := certificates(h.Anchors)
	if err != nil {
		return Hub{}, fmt.Errorf("hub %s: trust anchors: %w", h.Name, err)
	}
	intermediates, err := certificates(h.Intermediates)
	if err != nil {
		return Hub{}, fmt.Errorf("hub %s: intermediates: %w", h.Name, err)
	}
	devices, err := s.store.CountDevices(r.Context(), h.ID)
	if err != nil {
		return Hub{}, fmt.Errorf("hub %s: count devices: %w", h.Name, err)
	}
	return Hub{
		ID: h.ID.String(), Name: h.Name, DeclaredIn: h.Declared, Enabled: !h.Disabled && !h.Deleting,
		AutoProvisioning: h.AutoProvisioning, SNIOnly: h.SNIOnly, UnicodeNames: h.UnicodeNames,
		TrustAnchors: anchors, Intermediates: intermediates, Devices: devices,
	}, nil
}

func (s *Server) hubRoutes() []route {
	return []route{
		{
			method: "GET", path: "/v1/hubs", id: "listHubs", summary: "List hubs by name",
			role: access.Viewer, answer: Hubs{Hubs: []Hub{exampleHub}}, serve: s.listHubs,
		},
		{
			method: "GET", path: "/v1/hubs/{hub}", id: "getHub", summary: "Show a hub",
			role: access.Viewer, answer: exampleHub, serve: s.getHub,
		},
	}
}

func (s *Server) listHubs(r *http.Request) (any, error) {
	list := Hubs{Hubs: []Hub{}}
	for _, h := range s.gate.Hubs() {
		shown, err := s.showHub(r, h)
		if err != nil {
			return nil, err
		}
		list.Hubs = append(list.Hubs, shown)
	}
	return list, nil
}

func (s *Server) getHub(r *http.Request) (any, error) {
	h, err := s.hub(r)
	if err != nil {
		return nil, err
	}
	return s.showHub(r, h)
}

// hub finds the hub that the path names.
func (s *Server) hub(r *http.Request) (provision.Hub, error) {
	name := r.PathValue("hub")
	h, ok := s.gate.Hub(name)
	if !ok {
		return h, s.noHub(name)
	}
	return h, nil
}

// noHub names the hubs there are, if they are few.
func (s *Server) noHub(name string) error {
	const few = 5
	hubs := s.gate.Hubs()
	there := ""
	switch {
	case len(hubs) == 0:
		there = ": none is declared"
	case len(hubs) <= few:
		names := make([]string, len(hubs))
		for i, h := range hubs {
			names[i] = h.Name
		}
		there = ": there is " + strings.Join(names, ", ")
	}
	return fmt.Errorf("hub %q %w%s", name, provision.ErrNotFound, there)
}
