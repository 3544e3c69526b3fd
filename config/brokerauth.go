package config

import (
	"errors"
	"fmt"

	"github.com/hubgate/hubgate/brokerauth/username"
	"github.com/hubgate/hubgate/provision"
)

// BrokerAuth is the listener that MQTT brokers ask what their clients may do.
type BrokerAuth struct {
	// Listen is host:port, unix:///path, or ListenOff.
	Listen string
	// TLS is nil on a listener without it.
	TLS *TLS
	// Insecure says outright that a listener without TLS that other hosts
	// reach is meant.
	Insecure bool
	// Username is the form of the user names that hubgate's library writes.
	Username string
	// Services are the clients that are no devices.
	Services []BrokerService
}

// BrokerService is a client of the broker that is no device.
type BrokerService struct {
	Username string
	Password Secret
	Topics   []string // none: all
}

// leastPassword is how long a service's password is, in bytes: nobody counts
// how often it is guessed.
const leastPassword = 16

func (l *loader) brokerAuth(top *section, c *Config) BrokerAuth {
	s := top.sub("broker_auth", "listen", "tls", "insecure", "username", "services")
	b := BrokerAuth{Username: username.Default}
	b.Listen, b.TLS, b.Insecure = l.guarded(s, ListenOff, "find out what devices may do, and guess passwords of services")
	for key, other := range map[string]string{
		"authz.listen": c.Authz.Listen, "link.listen": c.Link.Listen, "metrics.listen": c.Metrics.Listen, "admin.listen": c.Admin.Listen,
	} {
		if b.Listen != ListenOff && taken(b.Listen, other) {
			s.problem("listen", "%s is taken by %s: use another port", b.Listen, key)
		}
	}
	if form := s.str("username"); form != "" {
		b.Username = form
	}
	form, err := username.Parse(b.Username)
	if err != nil {
		s.problem("username", "%v", err)
		return b
	}
	b.Services = l.brokerServices(s, form)
	return b
}

func (l *loader) brokerServices(s *section, devices *username.Form) []BrokerService {
	var services []BrokerService
	names := make(map[string]bool)
	for i, node := range s.list("services") {
		t := l.section(node, fmt.Sprintf("%s[%d]", s.key("services"), i), "username", "password_file", "topics")
		if t == nil {
			continue
		}
		for _, key := range []string{"username", "password_file"} {
			if !t.has(key) {
				t.problem(key, "is missing: a service needs username and password_file")
			}
		}
		service := BrokerService{Username: t.str("username")}
		if _, _, ok := devices.Read(service.Username); ok {
			t.problem("username", "%q is the user name of a device", service.Username)
		} else if names[service.Username] {
			t.problem("username", "another service is called %q, too", service.Username)
		}
		names[service.Username] = service.Username != ""
		if t.has("password_file") {
			service.Password = l.secret(t, "password_file")
			if n := len(service.Password); n > 0 && n < leastPassword {
				t.problem("password_file", "what %s holds has %d bytes, fewer than %d", t.str("password_file"), n, leastPassword)
			}
		}
		topics, _ := t.items("topics")
		for _, topic := range topics {
			one := provision.Filter{Topics: []string{topic.value}}
			var wrong *provision.SettingError
			if errors.As(provision.CheckDeviceSettings(provision.Device{Filters: &provision.Filters{Publish: one}}), &wrong) {
				l.add(topic.line, topic.key, "%s", wrong.Text)
			}
			service.Topics = append(service.Topics, topic.value)
		}
		services = append(services, service)
	}
	return services
}
