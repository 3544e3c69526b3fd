package main

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/trust"
)

// impostor is whoever calls himself what an authority is called, and has another
// key.
func impostor(a *pki.Authority) (*pki.Authority, error) {
	return pki.NewRoot(a.Certificate.Subject.CommonName, pki.WithTemplate(func(t *x509.Certificate) {
		t.RawSubject, t.SubjectKeyId = a.Certificate.RawSubject, a.Certificate.SubjectKeyId
	}))
}

// chains makes chains of leaf, line and root, each with a leaf of its own.
func chains(line *pki.Authority, n int) ([]*pki.Identity, error) {
	key, err := pki.NewKey(pki.P256) // of all: to make one for each takes time
	if err != nil {
		return nil, err
	}
	all := make([]*pki.Identity, n)
	for i := range all {
		if all[i], err = line.Leaf(fmt.Sprintf("stranger-%06d", i), pki.WithSigner(key)); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// hostile makes chains that take as long to refuse as the limits allow, for a hub
// that trusts the vendor and knows these intermediates: ten certificates that may
// each be any of theirs, by name, and are not.
func (v *vendor) hostile(n int) (known []*x509.Certificate, strangers []*pki.Identity, err error) {
	named := pki.WithTemplate(func(t *x509.Certificate) { t.RawSubject = v.line.Certificate.RawSubject })
	noKeyID := pki.WithEdit(func(t *pki.TBS) {
		t.Extensions = slices.DeleteFunc(t.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 14}) })
	})
	for range trust.MaxLearned {
		a, err := v.root.Intermediate("", named, noKeyID)
		if err != nil {
			return nil, nil, err
		}
		known = append(known, a.Certificate)
	}
	fake, err := impostor(v.line)
	if err != nil {
		return nil, nil, err
	}
	var below []*x509.Certificate
	for range trust.MaxCertificates - 1 {
		a, err := fake.Intermediate("", named)
		if err != nil {
			return nil, nil, err
		}
		below = append(below, a.Certificate)
	}
	strangers, err = chains(fake, n)
	for _, s := range strangers {
		s.Chain, s.Root = append([]*x509.Certificate{s.Certificate}, below[1:]...), below[0]
	}
	return known, strangers, err
}

// floodRate is how many hostile chains a second are offered for each of the
// servers' processors, of which they would take about all.
const floodRate = 600

// hostile measures what the worst chain costs, each seen for the first time, and
// what known devices keep of their throughput beside a flood of them.
func hostile(ctx context.Context, w *world, r *result) error {
	perRound := int(floodRate * float64(len(serverCPUs())) * w.long.Seconds())
	known, strangers, err := w.own.hostile(2 * w.rounds * perRound)
	if err != nil {
		return err
	}
	s, err := w.startHubgate(ctx, hubgateSpec{name: "hostile", store: "bolt:hubgate.db", intermediates: known})
	if err != nil {
		return err
	}
	defer s.process.Kill()
	requests, err := w.httpChecks()
	if err != nil {
		return err
	}
	devices, err := openLoad(ctx, s, requests, verdict(true))
	if err != nil {
		return err
	}
	defer devices.close()
	if err := devices.warm(ctx, w.inFlight); err != nil {
		return err
	}
	flood, err := openLoad(ctx, s, checksOf(strangers), verdict(false))
	if err != nil {
		return err
	}
	defer flood.close()
	alone := &side{name: "hostile alone", measure: func() (sample, error) { return flood.count(ctx, w.inFlight, perRound) }}
	// What the hostile chains cost is in the processor time.
	beside := &side{name: "known, beside them", measure: func() (m sample, err error) {
		var group errgroup.Group
		group.Go(func() (err error) { m, err = devices.closed(ctx, w.inFlight, w.long); return err })
		group.Go(func() error { _, err := flood.offer(ctx, float64(perRound)/w.long.Seconds(), w.long, nil); return err })
		return m, group.Wait()
	}}
	peace := &side{name: "known, in peace", measure: func() (sample, error) { return devices.closed(ctx, w.inFlight, w.long) }}
	sides := []*side{alone, beside, peace}
	if err := measureInTurns(sides, w.rounds); err != nil {
		return err
	}
	r.Columns, r.Rows = []string{cpuPerCheck, checksPerSec}, rowsOf(sides)
	r.Targets = []target{
		figure(cpuPerCheck, "µs", alone).atMost(2000),
		ratio(checksPerSec, beside, peace).atLeast(0.9),
		ratio(cpuPerCheck, beside, peace),
	}
	return nil
}

// foreignFirst measures what it costs to refuse a chain that was never seen, of
// a CA that calls itself as the hub's does. All that a chain of a CA of another
// name costs is to parse it.
func foreignFirst(ctx context.Context, w *world, r *result) error {
	fake, err := impostor(w.own.root)
	if err != nil {
		return err
	}
	line, err := fake.Intermediate("Acme line")
	if err != nil {
		return err
	}
	strangers, err := chains(line, w.rounds*w.devices)
	if err != nil {
		return err
	}
	file, err := w.newWork("foreign", strangers[:w.devices], "")
	if err != nil {
		return err
	}
	s, err := w.server(ctx, "hubgate")
	if err != nil {
		return err
	}
	sides, err := w.leastWork(ctx, file, s, checksOf(strangers), verdict(false), func(measure func() (sample, error)) (sample, error) { return measure() })
	if err != nil {
		return err
	}
	r.Columns, r.Rows = []string{cpuPerCheck, checksPerSec}, rowsOf(sides)
	r.Targets = []target{ratio(cpuPerCheck, sides[0], sides[1]).atMost(1.1), ratio(cpuPerCheck, sides[0], sides[2])}
	return nil
}
