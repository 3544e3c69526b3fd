package charts

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
)

const gatewayOn = "gateway: {enabled: true, tls: {existingSecret: x}, https: {backends: [a:1]}, mqtt: {brokers: [b:2]}}\n"

// TestWrongValues: each is refused, with a message that names the value.
func TestWrongValues(t *testing.T) {
	t.Parallel()
	for values, want := range map[string]string{
		"replicaCount: 2":                                                 "at '/replicaCount': value must be 1",
		"autoscaling: {enabled: true}":                                    "at '/autoscaling/enabled': value must be false",
		"replicacount: 2":                                                 "additional properties 'replicacount' not allowed",
		"replicaCount: two":                                               "at '/replicaCount': got string, want integer",
		"image: {digest: sha256:beef}":                                    "at '/image/digest'",
		"image: {tag: 1}":                                                 "at '/image/tag': got number, want string",
		"domain: '*.example.com'":                                         "at '/domain'",
		"log: {level: loud}":                                              "at '/log/level'",
		"store: {type: mysql}":                                            "at '/store/type'",
		"store: {type: redis}":                                            "at '/store/redis/",
		"store: {partitions: 0}":                                          "at '/store/partitions': minimum: got 0, want 1",
		"store: {type: redis, redis: {addresses: [redis]}}":               "at '/store/redis/addresses/0'",
		"store: {type: redis, redis: {url: 'redis://u:p@h:1'}}":           "at '/store/redis/url'",
		"store: {type: redis, redis: {url: 'redis://:p@h:1'}}":            "at '/store/redis/url'",
		"store: {type: redis, redis: {url: 'mysql://h'}}":                 "at '/store/redis/url'",
		"store: {type: redis, redis: {mode: sentinel, addresses: [a:1]}}": "at '/store/redis/master'",
		"store: {type: redis, redis: {addresses: [a:1], passwordKey: p}}": "at '/store/redis/existingSecret'",
		"store: {type: redis, redis: {addresses: [a:1], tls: {clientCertificate: true}}}": "at '/store/redis/tls/existingSecret'",
		"hubs: [{}]":              "missing property 'name'",
		"hubs: [{name: Factory}]": "at '/hubs/0/name'",
		"hubs: [{name: a, auto_provisioning: true}]":                                              "additional properties 'auto_provisioning' not allowed",
		"hubs: [{name: a, id: 1-2}]":                                                              "at '/hubs/0/id'",
		"hubs: [{name: a, trustAnchors: [{pem: x}]}]":                                             "at '/hubs/0/trustAnchors/0/pem'",
		"hubs: [{name: a, trustAnchors: [{}]}]":                                                   "at '/hubs/0/trustAnchors/0': minProperties",
		"hubs: [{name: a, trustAnchors: [{secret: {name: a}}]}]":                                  "missing property 'key'",
		"mtls: {mode: none}":                                                                      "at '/mtls/mode'",
		"mtls: {mode: 'off'}":                                                                     "at '/mtls/insecure': value must be true",
		"mtls: {mode: existingSecret}":                                                            "at '/mtls/existingSecret': minLength",
		"mtls: {certManager: {duration: 1 year}}":                                                 "at '/mtls/certManager/duration'",
		gatewayOn + "mtls: {mode: existingSecret, existingSecret: s}":                             "at '/mtls/existingClientSecret': minLength",
		"admin: {enabled: true}":                                                                  "at '/admin/insecure': value must be true",
		"admin: {region: Paris}":                                                                  "at '/admin/region'",
		"admin: {tokens: [{name: ci, role: root, existingSecret: a, key: b}]}":                    "at '/admin/tokens/0/role'",
		"admin: {tokens: [{name: ci, role: admin, secret: xyz}]}":                                 "at '/admin/tokens/0'",
		"brokerAuth: {enabled: true}":                                                             "at '/brokerAuth/insecure': value must be true",
		"brokerAuth: {services: [{username: a, key: b}]}":                                         "missing property 'existingSecret'",
		"brokerAuth: {services: [{username: a, existingSecret: b, key: c, topics: a}]}":           "at '/brokerAuth/services/0/topics': got string, want array",
		"ports: {authz: 70000}":                                                                   "at '/ports/authz': maximum",
		"drain: {delaySeconds: 5}":                                                                "at '/drain/delaySeconds': minimum: got 5, want 11",
		"podDisruptionBudget: {maxUnavailable: many}":                                             "at '/podDisruptionBudget/maxUnavailable'",
		"livenessProbe: {exec: {}}":                                                               "at '/livenessProbe': additional properties 'exec' not allowed",
		"extraEnv: {A: b}":                                                                        "at '/extraEnv': got object, want array",
		"gateway: {enabled: true}":                                                                "at '/gateway/",
		"gateway: {enabled: true, https: {enabled: false}, mqtt: {enabled: false}}":               "at '/gateway/",
		strings.Replace(gatewayOn, "brokers: [b:2]", "brokers: []", 1):                            "at '/gateway/mqtt/brokers': minItems",
		strings.Replace(gatewayOn, "existingSecret: x", "ticketKeys: [a], existingSecret: x", 1):  "at '/gateway/tls/ticketKeysSecret'",
		"hubs: [{name: a, crls: [{url: line.crl}]}]":                                              "at '/hubs/0/crls/0/url'",
		"hubs: [{name: a, crls: [{secret: {name: a, key: b}, url: http://c}]}]":                   "at '/hubs/0/crls/0': maxProperties",
		"crl: {refresh: hourly}":                                                                  "at '/crl/refresh'",
		"crl: {networks: [here]}":                                                                 "at '/crl/networks/0'",
		strings.Replace(gatewayOn, "{", "{module: false, insecure: {mqtt: {enabled: true}}, ", 1): "at '/gateway/module': value must be true",
		"gateway: {enabled: true, https: {enabled: false}, insecure: {http: {enabled: true}}, tls: {existingSecret: x}, mqtt: {brokers: [b:2]}}":  "at '/gateway/https/enabled': value must be true",
		"gateway: {enabled: true, mqtt: {enabled: false}, insecure: {mqtt: {enabled: true}}, tls: {existingSecret: x}, https: {backends: [b:2]}}": "at '/gateway/mqtt/enabled': value must be true",
		"gateway: {https: {containerPort: 443}}": "at '/gateway/https/containerPort': minimum",
		"gateway: {logLevel: loud}":              "at '/gateway/logLevel'",
		"gateway: {extraConfigArgs: [rm]}":       "at '/gateway/extraConfigArgs/0'",
		"serviceMonitor: {interval: often}":      "at '/serviceMonitor/interval'",
		"prometheusRule: {runbookURL: here}":     "at '/prometheusRule/runbookURL'",
		"dashboard: {labels: {a: 1}}":            "at '/dashboard/labels/a': got number, want string",
		"tests: {timeoutSeconds: 0}":             "at '/tests/timeoutSeconds'",
	} {
		t.Run(values, func(t *testing.T) {
			t.Parallel()
			out, err := render(t, values)
			if err == nil || !strings.Contains(out, want) {
				t.Errorf("helm says %v: %.1500s\nwant %s", err, out, want)
			}
		})
	}
}

// TestSchemaIsComplete: the schema knows every value that there is, closes every
// object, and knows no other; the chart's README has a row for each.
func TestSchemaIsComplete(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("hubgate/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	schemaText, err := os.ReadFile("hubgate/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("hubgate/README.md")
	if err != nil {
		t.Fatal(err)
	}
	var schema object
	if err := json.Unmarshal(schemaText, &schema); err != nil {
		t.Fatal(err)
	}
	var compare func(path string, values, schema object)
	compare = func(path string, values, schema object) {
		if schema["additionalProperties"] != false {
			t.Errorf("%s: other values are not refused", path)
		}
		properties := schema.at("properties")
		for key := range properties {
			if _, ok := values[key]; !ok && path+key != "global" {
				t.Errorf("%s%s is in the schema alone", path, key)
			}
		}
		for key := range values {
			s := properties.at(key)
			if len(s) == 0 {
				t.Errorf("%s%s is not in the schema", path, key)
				continue
			}
			if part := values.at(key); len(part) > 0 && s["properties"] != nil && !strings.HasSuffix(key, "Probe") {
				compare(path+key+".", part, s)
				continue
			}
			if !strings.Contains(string(readme), fmt.Sprintf("| `%s%s`", path, key)) && !strings.Contains(string(readme), fmt.Sprintf(", `%s%s`", path, key)) {
				t.Errorf("%s%s has no row in the chart's README", path, key)
			}
		}
	}
	values := parse(t, string(text))[0]
	compare("", values, schema)
}
