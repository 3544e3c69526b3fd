package admin

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/pem"
	"net/http"
	"net/netip"
	"strings"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// Question is a connection to explain.
type Question struct {
	// Chain is what the device presents: PEM, leaf first. None is a question, too,
	// and without TLS there is none.
	Chain string `json:"chain,omitempty"`
	// SNI is the server name of its handshake.
	SNI string `json:"sni,omitempty"`
	// Hub is the hub that Envoy's listener names (ID or name).
	Hub string `json:"hub,omitempty"`
	// Authority is the host of its HTTP request.
	Authority string `json:"authority,omitempty"`
	// Protocol is http or tcp, the default.
	Protocol string `json:"protocol,omitempty"`
	// Source is the device's IP address.
	Source string `json:"source,omitempty"`
	// Username and Password are what a device brings to a connection without TLS:
	// <hub>/<device>, and its secret. Given one of them, there is no TLS.
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
}

// Explanation says what would become of a connection, and why. Nothing is
// created, learned or counted for it.
type Explanation struct {
	Decision string `json:"decision"` // allow, deny or error
	Reason   string `json:"reason"`
	// Message is all that the device would see.
	Message string `json:"message"`
	// Detail is what was found, for operators.
	Detail string `json:"detail,omitempty"`
	// Remedy is what to do about it.
	Remedy     string `json:"remedy,omitempty"`
	HubID      string `json:"hub_id,omitempty"`
	HubName    string `json:"hub_name,omitempty"`
	DeviceID   string `json:"device_id,omitempty"`
	DeviceName string `json:"device_name,omitempty"`
	// Certificate is the one that broke the chain.
	Certificate *Certificate `json:"certificate,omitempty"`
	Steps       []Step       `json:"steps"`
}

// Step is one step of the decision.
type Step struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
}

func (s *Server) explainRoutes() []route {
	return []route{{
		method: "POST", path: "/v1/explain", id: "explain",
		summary: "Say what would become of a connection, and why; nothing is created, learned or counted for it",
		role:    access.Operator, body: exampleQuestion, answer: exampleExplanation, serve: s.explain,
	}}
}

func (s *Server) explain(r *http.Request) (any, error) {
	var q Question
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	c, err := q.connection()
	if err != nil {
		return nil, err
	}
	if p := caller(r); p.Project != uuid.Nil {
		// What all hubs make of a chain would tell of others' hubs.
		if q.Hub == "" {
			return nil, invalid("hub: name it, as you see the hubs of one project only")
		}
		if _, err := s.fleet.Find(r.Context(), p, q.Hub); err != nil {
			return nil, err
		}
	}
	d := s.gate.Admit(r.Context(), c)
	e := Explanation{
		Decision: d.Reason.Outcome().String(), Reason: string(d.Reason), Message: d.Reason.Message(),
		Detail: d.Detail, Remedy: d.Reason.Remedy(), HubName: d.HubName, DeviceName: d.DeviceName,
	}
	if !d.Hub.IsZero() {
		e.HubID = d.Hub.String()
	}
	if !d.Device.IsZero() {
		e.DeviceID = d.Device.String()
	}
	if d.Certificate != nil {
		c := certificate(d.Certificate)
		e.Certificate = &c
	}
	for _, step := range d.Steps {
		e.Steps = append(e.Steps, Step(step))
	}
	return e, nil
}

// connection is what Envoy would have told of the device. Whether the
// certificates are any good is the decision's to say.
func (q Question) connection() (provision.Connection, error) {
	c := provision.Connection{
		TLS: true, DryRun: true, SNI: q.SNI, HubHint: q.Hub, Authority: q.Authority,
		Protocol: provision.Protocol(cmp.Or(q.Protocol, string(provision.TCP))),
	}
	if q.Username != "" || q.Password != "" {
		if q.Chain != "" || q.SNI != "" {
			return c, invalid("username: belongs to a connection without TLS, and so neither chain nor sni beside it")
		}
		c.TLS = false
	}
	if q.Username != "" && q.Password != "" {
		c.Credentials = &provision.Credentials{User: q.Username, Secret: provision.SecretHashOf(q.Password)}
	}
	if c.Protocol != provision.HTTP && c.Protocol != provision.TCP {
		return c, invalid("protocol: %q is neither http nor tcp", q.Protocol)
	}
	if q.Source != "" {
		source, err := netip.ParseAddr(q.Source)
		if err != nil {
			return c, invalid("source: %q is no IP address", q.Source)
		}
		c.Source = source
	}
	for rest := []byte(q.Chain); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if len(c.Presented) == 0 && len(bytes.TrimSpace(rest)) > 0 {
				return c, invalid("chain: holds no certificate in PEM form")
			}
			break
		}
		switch {
		case strings.Contains(block.Type, "PRIVATE KEY"):
			return c, invalid("chain: holds a private key: it is not needed, and belongs nowhere but on the device")
		case block.Type != "CERTIFICATE":
			return c, invalid("chain: holds a block %q, which is no certificate", block.Type)
		}
		c.Presented = append(c.Presented, block.Bytes)
		c.Attested = append(c.Attested, trust.Fingerprint(sha256.Sum256(block.Bytes)))
	}
	if len(c.Presented) > 0 {
		c.Leaf = c.Presented[0]
	}
	return c, nil
}
