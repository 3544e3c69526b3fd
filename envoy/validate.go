package envoy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Validate tells what is wrong with the options, every mistake at once, each
// by the field's name. Fields left zero have their defaults.
func (o Options) Validate() error {
	o = o.withDefaults()
	var p problems
	if o.Domain != "" && !isDomain(o.Domain) {
		p.add("Domain", "%q is not a DNS name in lower case", o.Domain)
	}
	if h := o.HTTPS; h != nil {
		p.listener("HTTPS", h.Listen, h.Hub)
		p.upstreams("HTTPS.Backends", h.Backends)
		p.atLeast("HTTPS.IdleTimeout", h.IdleTimeout, time.Millisecond)
		p.atLeast("HTTPS.StreamIdleTimeout", h.StreamIdleTimeout, time.Millisecond)
		if h.OnlyDomain && o.Domain == "" {
			p.add("HTTPS.OnlyDomain", "needs Domain")
		}
	}
	if m := o.MQTT; m != nil {
		p.listener("MQTT", m.Listen, m.Hub)
		p.upstreams("MQTT.Brokers", m.Brokers)
		p.atLeast("MQTT.IdleTimeout", m.IdleTimeout, time.Millisecond)
	}
	p.insecure(o)
	if o.HTTPS != nil && o.MQTT != nil && o.HTTPS.Listen == o.MQTT.Listen {
		p.add("MQTT.Listen", "%s is the HTTPS listener's", o.MQTT.Listen)
	}
	for i, pair := range o.Certificates {
		p.keyPair(fmt.Sprintf("Certificates[%d]", i), pair)
	}
	for i, file := range o.TicketKeys {
		p.file(fmt.Sprintf("TicketKeys[%d]", i), file)
	}
	p.hubgate(o.Hubgate)
	if o.Module != nil {
		p.module(o.Module)
	}
	if !isPlain(o.NodeID) || strings.ContainsAny(o.NodeID, "%,") {
		p.add("NodeID", "%q is not printable ASCII without '%%' and ','", o.NodeID)
	}
	if !isPlain(o.NodeCluster) {
		p.add("NodeCluster", "%q is not printable ASCII", o.NodeCluster)
	}
	if o.Admin != "" {
		p.admin(o.Admin)
	}
	p.atLeast("HandshakeTimeout", o.HandshakeTimeout, time.Millisecond)
	p.atLeast("TCPKeepalive", o.TCPKeepalive, time.Second)
	return errors.Join(p...)
}

// problems collects one error for each wrong field.
type problems []error

func (p *problems) add(field, format string, args ...any) {
	*p = append(*p, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
}

func (p *problems) atLeast(field string, got, least time.Duration) {
	if got < least {
		p.add(field, "%s is less than %s", got, least)
	}
}

func (p *problems) file(field, path string) {
	if path == "" || !isPlain(path) {
		p.add(field, "%q is not a file name in printable ASCII", path)
	}
}

func (p *problems) keyPair(field string, pair KeyPair) {
	p.file(field+".Certificate", pair.Certificate)
	p.file(field+".Key", pair.Key)
}

func (p *problems) listener(name, listen, hub string) {
	if e, ok := parseEndpoint(listen); !ok || !e.ip.IsValid() {
		p.add(name+".Listen", "%q is not IP:port", listen)
	}
	// A hub's ID is a DNS label as well.
	if hub != "" && !isLabel(hub) {
		p.add(name+".Hub", "%q is neither a hub's name nor its ID", hub)
	}
}

// insecure checks the listeners without TLS.
func (p *problems) insecure(o Options) {
	taken := make(map[string]bool)
	if o.HTTPS != nil {
		taken[o.HTTPS.Listen] = true
	}
	if o.MQTT != nil {
		taken[o.MQTT.Listen] = true
	}
	check := func(field, listen string) {
		switch e, ok := parseEndpoint(listen); {
		case listen == "":
			return
		case !ok || !e.ip.IsValid():
			p.add(field, "%q is not IP:port", listen)
		case taken[listen]:
			p.add(field, "%s is another listener's", listen)
		}
		taken[listen] = true
	}
	if o.HTTPS != nil {
		check("HTTPS.Insecure", o.HTTPS.Insecure)
	}
	if o.MQTT != nil {
		check("MQTT.Insecure", o.MQTT.Insecure)
		if o.MQTT.Insecure != "" && o.Module == nil {
			p.add("MQTT.Insecure", "needs Module, which reads the credentials")
		}
	}
}

func (p *problems) upstreams(field string, addresses []string) {
	var names, sockets bool
	for i, address := range addresses {
		e, ok := parseEndpoint(address)
		if !ok {
			p.add(fmt.Sprintf("%s[%d]", field, i), "%q is neither host:port nor unix:///path", address)
		}
		names = names || e.name != ""
		sockets = sockets || e.path != ""
	}
	if names && sockets {
		p.add(field, "Envoy cannot mix host names and Unix sockets")
	}
}

func (p *problems) hubgate(h Hubgate) {
	p.upstreams("Hubgate.Addresses", h.Addresses)
	p.atLeast("Hubgate.CheckTimeout", h.CheckTimeout, time.Millisecond)
	p.clientTLS("Hubgate.TLS", h.TLS)
}

func (p *problems) clientTLS(field string, t *ClientTLS) {
	if t == nil {
		return
	}
	p.file(field+".CA", t.CA)
	if t.Client != (KeyPair{}) {
		p.keyPair(field+".Client", t.Client)
	}
	if _, err := netip.ParseAddr(t.ServerName); err != nil && !isDomain(t.ServerName) {
		p.add(field+".ServerName", "%q is neither a DNS name in lower case nor an IP address", t.ServerName)
	}
}

func (p *problems) admin(address string) {
	e, ok := parseEndpoint(address)
	if !ok || e.path == "" && !e.ip.IsLoopback() {
		p.add("Admin", "%q is neither a loopback address with a port nor unix:///path", address)
	}
}

// isDomain tells whether s is a DNS name of lower-case labels, no final dot.
func isDomain(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !isLabel(label) {
			return false
		}
	}
	return true
}

func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool { return r != '-' && (r < 'a' || r > 'z') && (r < '0' || r > '9') }) < 0
}

// isPlain tells whether s is printable ASCII; the empty string is.
func isPlain(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}
