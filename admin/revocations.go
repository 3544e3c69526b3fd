package admin

import (
	"fmt"
	"net/http"
	"time"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/admin/fleet"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// Revocation is a certificate, or a key, that was revoked by hand.
type Revocation struct {
	// ID is what it is lifted by.
	ID string `json:"id"`
	// Serial is the certificate's serial number in hexadecimal, Issuer the SHA-256
	// of its issuer's key. Both are empty if a key is revoked.
	Serial string `json:"serial,omitempty"`
	Issuer string `json:"issuer_key_sha256,omitempty"`
	// Key is the SHA-256 of the key that is revoked.
	Key    string    `json:"key_sha256,omitempty"`
	Reason string    `json:"reason,omitempty"`
	By     string    `json:"by"`
	At     time.Time `json:"at"`
}

// Revocations are what is revoked by hand on a hub, the oldest first.
type Revocations struct {
	Revocations []Revocation `json:"revocations"`
}

// NewRevocation names what to revoke: serial and issuer, key, certificate or
// device.
type NewRevocation struct {
	// Serial is a serial number, in hexadecimal.
	Serial string `json:"serial,omitempty"`
	// Issuer is the SHA-256 of the issuer's key, or of its certificate if the hub
	// knows it.
	Issuer string `json:"issuer,omitempty"`
	// Key is the SHA-256 of a public key (SPKI).
	Key string `json:"key_sha256,omitempty"`
	// Certificate is the one to revoke, in PEM.
	Certificate string `json:"certificate,omitempty"`
	// Device is a name or ID: the key that it connected with last is revoked.
	Device string `json:"device,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// CRL is the newest revocation list of one of a hub's CAs.
type CRL struct {
	// Issuer is the SHA-256 of the CA's key.
	Issuer string `json:"issuer_key_sha256"`
	Name   string `json:"issuer"`
	// Number is the list's, in decimal.
	Number     string    `json:"number"`
	ThisUpdate time.Time `json:"this_update"`
	NextUpdate time.Time `json:"next_update"`
	// Current: the next list is not due yet.
	Current bool      `json:"current"`
	Entries int       `json:"entries"`
	AddedAt time.Time `json:"added_at"`
	// Sources are the addresses and files that it came from, none if it was
	// uploaded.
	Sources []string `json:"sources"`
}

// CRLs are a hub's revocation lists, and where it gets them from.
type CRLs struct {
	CRLs []CRL `json:"crls"`
	// Sources are addresses, and of a declared hub files too.
	Sources []string `json:"sources"`
}

// NewCRL is a revocation list to upload.
type NewCRL struct {
	CRL string `json:"crl"` // PEM
}

// CRLSources are the addresses that a hub gets its revocation lists from.
type CRLSources struct {
	URLs []string `json:"urls"`
}

func (s *Server) revocationRoutes() []route {
	const revocations, crls = "/v1/hubs/{hub}/revocations", "/v1/hubs/{hub}/crls"
	return []route{
		{
			method: "GET", path: revocations, id: "listRevocations", summary: "List what is revoked by hand on a hub",
			role: access.Viewer, answer: Revocations{[]Revocation{exampleRevocation}}, serve: s.listRevocations,
		},
		{
			method: "POST", path: revocations, id: "revoke", summary: "Revoke a certificate or a key: it is refused, and its connections end",
			role: access.Operator, body: NewRevocation{Serial: exampleRevocation.Serial, Issuer: exampleKey, Reason: "stolen"},
			answer: exampleRevocation, status: http.StatusCreated, serve: s.revoke,
		},
		{
			method: "DELETE", path: revocations + "/{revocation}", id: "unrevoke", summary: "Lift a revocation that was made by hand",
			role: access.Operator, serve: s.unrevoke,
		},
		{
			method: "GET", path: crls, id: "listCRLs", summary: "List a hub's certificate revocation lists, and where they come from",
			role: access.Viewer, answer: CRLs{[]CRL{exampleCRL}, exampleCRL.Sources}, serve: s.listCRLs,
		},
		{
			method: "POST", path: crls, id: "addCRL", summary: "Upload a certificate revocation list of one of the hub's CAs",
			role: access.Operator, body: NewCRL{"-----BEGIN X509 CRL-----\n…\n-----END X509 CRL-----\n"}, largest: 2 * trust.MaxCRLBytes,
			answer: exampleCRL, status: http.StatusCreated, serve: s.addCRL,
		},
		{
			method: "PUT", path: crls, id: "setCRLSources", summary: "Set the addresses that a hub gets its revocation lists from",
			role: access.Admin, body: CRLSources{exampleCRL.Sources}, serve: s.setCRLSources,
		},
		{
			method: "DELETE", path: crls + "/{issuer}", id: "removeCRL", summary: "Remove the revocation list of an issuer, and all that it revokes",
			role: access.Admin, serve: s.removeCRL,
		},
	}
}

func showRevocation(v provision.Revocation) Revocation {
	r := Revocation{ID: v.ID().String(), Reason: v.Reason, By: v.By, At: v.At}
	if v.Serial != nil {
		r.Serial, r.Issuer = fmt.Sprintf("%x", v.Serial), v.Issuer.String()
	} else {
		r.Key = v.Key.String()
	}
	return r
}

func (s *Server) showCRL(c fleet.CRL) CRL {
	return CRL{
		Issuer: c.Issuer.String(), Name: c.Name, Number: c.Number.String(), ThisUpdate: c.ThisUpdate, NextUpdate: c.NextUpdate,
		Current: !s.now().After(c.NextUpdate), Entries: c.Entries, AddedAt: c.AddedAt, Sources: append([]string{}, c.Sources...),
	}
}

func (s *Server) listRevocations(r *http.Request) (any, error) {
	revoked, err := s.fleet.Revoked(r.Context(), caller(r), r.PathValue("hub"))
	if err != nil {
		return nil, err
	}
	list := Revocations{make([]Revocation, len(revoked.ByHand))}
	for i, v := range revoked.ByHand {
		list.Revocations[i] = showRevocation(v)
	}
	return list, nil
}

func (s *Server) revoke(r *http.Request) (any, error) {
	var body NewRevocation
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	v, err := s.fleet.Revoke(r.Context(), caller(r), r.PathValue("hub"), fleet.RevocationSpec(body))
	if err != nil {
		return nil, err
	}
	return showRevocation(v), nil
}

func (s *Server) unrevoke(r *http.Request) (any, error) {
	id, err := trust.ParseRevocationID(r.PathValue("revocation"))
	if err != nil {
		return nil, invalid("revocation: %s", err)
	}
	return nil, s.fleet.Unrevoke(r.Context(), caller(r), r.PathValue("hub"), id)
}

func (s *Server) listCRLs(r *http.Request) (any, error) {
	revoked, err := s.fleet.Revoked(r.Context(), caller(r), r.PathValue("hub"))
	if err != nil {
		return nil, err
	}
	list := CRLs{make([]CRL, len(revoked.CRLs)), append([]string{}, revoked.Sources...)}
	for i, c := range revoked.CRLs {
		list.CRLs[i] = s.showCRL(c)
	}
	return list, nil
}

func (s *Server) addCRL(r *http.Request) (any, error) {
	var body NewCRL
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	c, err := s.fleet.PutCRL(r.Context(), caller(r), r.PathValue("hub"), []byte(body.CRL))
	if err != nil {
		return nil, err
	}
	return s.showCRL(c), nil
}

func (s *Server) setCRLSources(r *http.Request) (any, error) {
	var body CRLSources
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	if body.URLs == nil {
		return nil, invalid("urls: is missing; an empty list removes all")
	}
	return nil, s.fleet.SetCRLSources(r.Context(), caller(r), r.PathValue("hub"), body.URLs)
}

func (s *Server) removeCRL(r *http.Request) (any, error) {
	issuer, err := trust.ParseKeyHash(r.PathValue("issuer"))
	if err != nil {
		return nil, invalid("issuer: %s", err)
	}
	return nil, s.fleet.RemoveCRL(r.Context(), caller(r), r.PathValue("hub"), issuer)
}
