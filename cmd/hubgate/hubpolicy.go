package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hubgate/hubgate/admin"
)

// policyFlags are the settings of a hub's policy.
type policyFlags struct {
	connections, keys, revocation, maxAge, outage, admission string
	maxDevices, firstConnections                             int
	custom                                                   bool
}

func (f *policyFlags) add(c *cobra.Command, creates bool) {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.StringVar(&f.connections, "connections", "takeover", "of a device that may hold one connection: takeover ends the older, reject refuses the newer")
	flags.StringVar(&f.keys, "keys", "accept", "a known device with another key: accept it, pin the first key, or have an operator approve it")
	flags.StringVar(&f.revocation, "revocation", "allow", "a certificate whose revocation list is missing or stale: allow or refuse it")
	flags.StringVar(&f.maxAge, "max-session-age", "0s", "end connections that are older, such as 24h; 0s: none")
	flags.StringVar(&f.outage, "outage", "serve", "known devices while the store does not answer: serve or refuse them")
	flags.IntVar(&f.maxDevices, "max-devices", 1_000_000, "devices beyond this number do not create themselves")
	flags.IntVar(&f.firstConnections, "first-connections-per-second", 0, "devices that may create themselves per second; 0: no bound")
	flags.BoolVar(&f.custom, "custom-certificates", false, "let devices in with their custom certificate (hubgate device certificate) under no CA of the hub")
	flags.StringVar(&f.admission, "admission", "", "file of the rules for unseen devices, JSON as in the API ([] removes them); - is standard input")
	if !creates {
		// What is not said stays, so no default is shown.
		flags.VisitAll(func(f *pflag.Flag) { f.DefValue = map[string]string{"int": "0"}[f.Value.Type()] })
	}
	c.Flags().AddFlagSet(flags)
}

// body is what was said outright.
func (f *policyFlags) body(c *cobra.Command, in io.Reader) (map[string]any, error) {
	body := said(c, map[string]field{
		"connections": {"connections", f.connections}, "keys": {"keys", f.keys}, "revocation": {"revocation", f.revocation},
		"max-session-age": {"max_session_age", f.maxAge}, "outage": {"outage", f.outage},
		"max-devices": {"max_devices", f.maxDevices}, "first-connections-per-second": {"first_connections_per_second", f.firstConnections},
		"custom-certificates": {"custom_certificates", f.custom},
	})
	if f.admission == "" {
		return body, nil
	}
	if f.admission != "-" {
		file, err := os.Open(f.admission)
		if err != nil {
			return nil, fmt.Errorf("--admission: %w", err)
		}
		defer func() { _ = file.Close() }()
		in = file
	}
	var rules []admin.AdmissionRule
	d := json.NewDecoder(io.LimitReader(in, maxPEM))
	d.DisallowUnknownFields()
	if err := d.Decode(&rules); err != nil || rules == nil {
		return nil, usage("--admission: %s holds no JSON list of rules such as [{\"name_pattern\": \"SN-[0-9]+\"}]: %v", f.admission, err)
	}
	body["admission"] = rules
	return body, nil
}

// printPolicy shows what differs from the default.
func printPolicy(t *table, p admin.Policy) {
	for _, e := range []struct{ name, value, usual string }{
		{"second connection", p.Connections, "takeover"},
		{"other key", p.Keys, "accept"},
		{"no revocation list", p.Revocation, "allow"},
		{"max session age", p.MaxSessionAge, "0s"},
		{"store outage", p.Outage, "serve"},
		{"max devices", strconv.Itoa(p.MaxDevices), "1000000"},
		{"first connections/s", strconv.Itoa(p.FirstConnectionsPerSecond), "0"},
		{"custom certificates", yesNo(p.CustomCertificates), "no"},
	} {
		if e.value != e.usual {
			t.row(e.name, e.value)
		}
	}
	for _, r := range p.Admission {
		t.row("admission rule", shortRule(r))
	}
}

func shortRule(r admin.AdmissionRule) string {
	var parts []string
	for _, e := range []struct{ format, value string }{
		{"for anchor key %.16s…", r.Anchor}, {"name matches %s", r.NamePattern}, {"issued by key %.16s…", r.Issuer},
		{"claims: %s", r.Claims}, {"asks %s", r.Hook},
	} {
		if e.value != "" {
			parts = append(parts, fmt.Sprintf(e.format, e.value))
		}
	}
	return strings.Join(parts, ", ")
}
