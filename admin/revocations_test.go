package admin

import (
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/trust"
)

// TestRevocations revokes on a hub, by hand and by a list, and lifts it again.
func TestRevocations(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	var h Hub
	r.want(201, "", "POST", "/v1/hubs", NewHub{Name: "plant"}, &h)
	ca, err := pki.NewRoot("Plant root")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	challenge, err := ca.Leaf(h.ID, pki.WithValidity(now.Add(-time.Minute), now.Add(time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	path := "/v1/hubs/plant"
	r.want(201, "", "POST", path+"/anchors", NewAnchor{
		Certificate: string(pki.EncodeCertificates(ca.Certificate)), Challenge: string(pki.EncodeCertificates(challenge.Certificate)),
	}, nil)

	var made Revocation
	r.want(201, "", "POST", path+"/revocations", NewRevocation{Key: strings.Repeat("ab", 32), Reason: "stolen"}, &made)
	var all Revocations
	r.want(200, "", "GET", path+"/revocations", nil, &all)
	if len(all.Revocations) != 1 || all.Revocations[0] != made || made.By != "local" {
		t.Errorf("revoked is %+v, want %+v", all, made)
	}
	r.want(400, "invalid", "POST", path+"/revocations", NewRevocation{Key: strings.Repeat("ab", 32), Reason: "\x1b[2J"}, nil)
	r.want(204, "", "DELETE", path+"/revocations/"+made.ID, nil, nil)
	r.want(404, "not_found", "DELETE", path+"/revocations/"+made.ID, nil, nil)

	list, err := ca.CRL(7, nil)
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list}))
	var added CRL
	r.want(201, "", "POST", path+"/crls", NewCRL{text}, &added)
	if added.Issuer != trust.KeyHashOf(ca.Certificate).String() || added.Number != "7" || !added.Current {
		t.Errorf("added %+v", added)
	}
	r.want(400, "invalid", "PUT", path+"/crls", `{}`, nil)
	r.want(204, "", "PUT", path+"/crls", CRLSources{[]string{"https://ca.example.com/plant.crl"}}, nil)
	var lists CRLs
	r.want(200, "", "GET", path+"/crls", nil, &lists)
	if len(lists.CRLs) != 1 || len(lists.Sources) != 1 {
		t.Errorf("lists %+v", lists)
	}
	r.want(204, "", "DELETE", path+"/crls/"+added.Issuer, nil, nil)
	r.want(404, "not_found", "DELETE", path+"/crls/"+added.Issuer, nil, nil)
}
