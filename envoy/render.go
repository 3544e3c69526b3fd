package envoy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// plain matches words, durations and IPv4 addresses, which no YAML reader of
// whatever version takes for something else; constants are the exceptions.
var (
	plain     = regexp.MustCompile(`^([A-Za-z/][A-Za-z0-9_./,-]*|\d+(\.\d+)?s|\d+\.\d+\.\d+\.\d+)$`)
	constants = []string{"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
)

// header is the comment at the top: what an operator has to provide.
func header(o Options) string {
	var s strings.Builder
	line := func(format string, args ...any) {
		s.WriteString(strings.TrimRight("# "+fmt.Sprintf(format, args...), " ") + "\n")
	}
	line("Envoy 1.40 or later in front of hubgate; written by \"hubgate envoy config\".")
	line("Check: envoy --mode validate -c THIS_FILE")
	for _, open := range insecureListeners(o) {
		line("")
		line("WARNING: %s", open)
	}
	line("")
	line("It expects:")
	line("- hubgate's gRPC port at %s; without it nobody gets in", strings.Join(o.Hubgate.Addresses, ", "))
	if m := o.Module; m != nil {
		line("- hubgate's link port at %s", strings.Join(m.Links, ", "))
		if m.Library != "" {
			line("- hubgate's library at %s", m.Library)
		} else {
			line("- hubgate's library, libhubgate.so, in $ENVOY_DYNAMIC_MODULES_SEARCH_PATH")
		}
	}
	if o.HTTPS != nil {
		line("- HTTP backends at %s", strings.Join(o.HTTPS.Backends, ", "))
	}
	if o.MQTT != nil {
		line("- MQTT brokers at %s, which nobody else can reach", strings.Join(o.MQTT.Brokers, ", "))
	}
	for _, pair := range o.Certificates {
		line("- the certificate in %s, read at start only: restart Envoy to renew it", pair.Certificate)
	}
	if o.Domain != "" {
		line("- DNS for %s and *.%s, and certificates for both", o.Domain, o.Domain)
	}
	line("- a limit on open files of %d or more (ulimit -n)", 2*uint64(o.MaxConnections)+1024)
	return s.String()
}

// insecureListeners say what an operator should know of listeners without TLS.
func insecureListeners(o Options) []string {
	var all []string
	if o.HTTPS != nil && o.HTTPS.Insecure != "" {
		all = append(all, fmt.Sprintf("%s takes HTTP without TLS: whoever reads that network reads the secrets of devices and can pass for them.", o.HTTPS.Insecure))
	}
	if o.MQTT != nil && o.MQTT.Insecure != "" {
		all = append(all, fmt.Sprintf("%s takes MQTT without TLS: whoever reads that network reads the secrets of devices and can pass for them.", o.MQTT.Insecure))
	}
	return all
}

// render writes a message as YAML, in the order of its fields.
func render(comment string, m proto.Message) ([]byte, error) {
	data, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("envoy configuration: %w", err)
	}
	// JSON is YAML, so this keeps the order, which a map would not.
	var document yaml.Node
	if err := yaml.Load(data, &document); err != nil {
		return nil, fmt.Errorf("envoy configuration: %w", err)
	}
	restyle(&document)
	out, err := yaml.Dump(&document, yaml.WithIndent(2))
	if err != nil {
		return nil, fmt.Errorf("envoy configuration: %w", err)
	}
	return append([]byte(comment), out...), nil
}

// restyle turns JSON's layout into YAML's, and keeps the quotes of strings
// that need them: Envoy would read a hub called "on" as true.
func restyle(n *yaml.Node) {
	n.Style = 0
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
		if !plain.MatchString(n.Value) || slices.Contains(constants, strings.ToLower(n.Value)) {
			n.Style = yaml.DoubleQuotedStyle
		}
	}
	for _, child := range n.Content {
		restyle(child)
	}
}
