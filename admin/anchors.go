package admin

import (
	"net/http"
	"time"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/admin/fleet"
	"github.com/hubgate/hubgate/trust"
)

// Anchor is a CA that a hub trusts.
type Anchor struct {
	Certificate
	// Key is the SHA-256 of its public key (SPKI): what devices are bound to.
	Key string `json:"key_sha256"`
	// AddedAt is not known of a declared hub's.
	AddedAt *time.Time `json:"added_at,omitempty"`
	AddedBy string     `json:"added_by,omitempty"`
	// Waived: nobody proved to have its key, for the reason given.
	Waived       bool   `json:"waived"`
	WaiverReason string `json:"waiver_reason,omitempty"`
	// Devices were last admitted by it.
	Devices int `json:"devices"`
	// RotationGroup is the same of anchors that take each other's place.
	RotationGroup string `json:"rotation_group,omitempty"`
	// Superseded: its rotation group has one that was installed later. Once
	// devices is 0, it can be removed.
	Superseded bool `json:"superseded"`
	// ExpiresInDays is negative once it has expired.
	ExpiresInDays int `json:"expires_in_days"`
}

// Anchors are the CAs that a hub trusts.
type Anchors struct {
	Anchors []Anchor `json:"anchors"`
}

// NewAnchor is a CA to trust, and the proof that its key is the caller's.
type NewAnchor struct {
	// Certificate is the CA's, in PEM.
	Certificate string `json:"certificate"`
	// Challenge is a certificate, in PEM, that the CA itself signed, named like
	// the hub's ID and valid for 7 days at most.
	Challenge string `json:"challenge,omitempty"`
	// WaiveProof does without, for a vendor's CA. It takes an admin of all
	// projects, and a reason.
	WaiveProof   bool   `json:"waive_proof,omitempty"`
	WaiverReason string `json:"waiver_reason,omitempty"`
	// Rotates is the fingerprint of the hub's anchor that this one is to take the
	// place of: devices that either has admitted are admitted by both.
	Rotates string `json:"rotates,omitempty"`
}

// Intermediate is a CA below a hub's anchors.
type Intermediate struct {
	Certificate
	// Source is learned if a device brought it.
	Source string `json:"source" enum:"uploaded,learned"`
}

// Intermediates are what a hub knows below its anchors.
type Intermediates struct {
	Intermediates []Intermediate `json:"intermediates"`
}

// NewIntermediates are intermediates to upload.
type NewIntermediates struct {
	Certificates string `json:"certificates"` // PEM
}

func (s *Server) trustRoutes() []route {
	const anchors, intermediates = "/v1/hubs/{hub}/anchors", "/v1/hubs/{hub}/intermediates"
	return []route{
		{
			method: "GET", path: anchors, id: "listAnchors", summary: "List the CAs that a hub trusts",
			role: access.Viewer, answer: Anchors{[]Anchor{exampleAnchor}}, serve: s.listAnchors,
		},
		{
			method: "POST", path: anchors, id: "addAnchor", summary: "Have a hub trust a CA",
			role: access.Admin, body: NewAnchor{Certificate: examplePEM, Challenge: examplePEM},
			answer: exampleAnchor, status: http.StatusCreated, serve: s.addAnchor,
		},
		{
			method: "DELETE", path: anchors + "/{fingerprint}", id: "removeAnchor",
			summary: "End a hub's trust in a CA, and the connections of devices that it admitted",
			role:    access.Admin, serve: s.removeAnchor,
			query: []parameter{{name: "end_devices", text: "Do so even if devices were last admitted by it.", values: trueOrFalse}},
		},
		{
			method: "GET", path: intermediates, id: "listIntermediates", summary: "List the intermediate CAs that a hub knows",
			role: access.Viewer, answer: Intermediates{[]Intermediate{exampleIntermediate}}, serve: s.listIntermediates,
		},
		{
			method: "POST", path: intermediates, id: "addIntermediates", summary: "Upload intermediate CAs, for devices that send their leaf alone",
			role: access.Admin, body: NewIntermediates{Certificates: examplePEM},
			answer: Intermediates{[]Intermediate{exampleIntermediate}}, serve: s.addIntermediates,
		},
		{
			method: "DELETE", path: intermediates + "/{fingerprint}", id: "removeIntermediate", summary: "Forget an intermediate CA",
			role: access.Admin, serve: s.removeIntermediate,
		},
	}
}

func (s *Server) showAnchor(a fleet.Anchor) Anchor {
	return Anchor{
		Certificate: certificate(a.Certificate), Key: trust.KeyHashOf(a.Certificate).String(),
		AddedAt: timeOf(a.Facts.AddedAt), AddedBy: a.Facts.AddedBy, Waived: a.Facts.Waived, WaiverReason: a.Facts.WaiverReason,
		RotationGroup: a.Facts.Group, Superseded: a.Superseded,
		Devices: a.Devices, ExpiresInDays: int(a.Certificate.NotAfter.Sub(s.now()).Hours() / 24),
	}
}

func (s *Server) listAnchors(r *http.Request) (any, error) {
	anchors, err := s.fleet.Anchors(r.Context(), caller(r), r.PathValue("hub"))
	if err != nil {
		return nil, err
	}
	list := Anchors{make([]Anchor, len(anchors))}
	for i, a := range anchors {
		list.Anchors[i] = s.showAnchor(a)
	}
	return list, nil
}

func (s *Server) addAnchor(r *http.Request) (any, error) {
	var body NewAnchor
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	spec := fleet.AnchorSpec{
		Certificate: body.Certificate, Challenge: body.Challenge, WaiveProof: body.WaiveProof, WaiverReason: body.WaiverReason,
	}
	if body.Rotates != "" {
		var err error
		if spec.Rotates, err = trust.ParseFingerprint(body.Rotates); err != nil {
			return nil, invalid("rotates: %s", err)
		}
	}
	a, err := s.fleet.AddAnchor(r.Context(), caller(r), r.PathValue("hub"), spec)
	if err != nil {
		return nil, err
	}
	return s.showAnchor(a), nil
}

// fingerprint reads the one that the path names.
func fingerprint(r *http.Request) (trust.Fingerprint, error) {
	print, err := trust.ParseFingerprint(r.PathValue("fingerprint"))
	if err != nil {
		return print, invalid("fingerprint: %s", err)
	}
	return print, nil
}

func (s *Server) removeAnchor(r *http.Request) (any, error) {
	print, err := fingerprint(r)
	if err != nil {
		return nil, err
	}
	return nil, s.fleet.RemoveAnchor(r.Context(), caller(r), r.PathValue("hub"), print, r.URL.Query().Get("end_devices") == "true")
}

func showIntermediates(all []fleet.Intermediate) Intermediates {
	list := Intermediates{make([]Intermediate, len(all))}
	for i, c := range all {
		list.Intermediates[i] = Intermediate{certificate(c.Certificate), "uploaded"}
		if c.Learned {
			list.Intermediates[i].Source = "learned"
		}
	}
	return list
}

func (s *Server) listIntermediates(r *http.Request) (any, error) {
	all, err := s.fleet.Intermediates(r.Context(), caller(r), r.PathValue("hub"))
	if err != nil {
		return nil, err
	}
	return showIntermediates(all), nil
}

func (s *Server) addIntermediates(r *http.Request) (any, error) {
	var body NewIntermediates
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	all, err := s.fleet.AddIntermediates(r.Context(), caller(r), r.PathValue("hub"), body.Certificates)
	if err != nil {
		return nil, err
	}
	return showIntermediates(all), nil
}

func (s *Server) removeIntermediate(r *http.Request) (any, error) {
	print, err := fingerprint(r)
	if err != nil {
		return nil, err
	}
	return nil, s.fleet.RemoveIntermediate(r.Context(), caller(r), r.PathValue("hub"), print)
}
