package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/hubgate/hubgate/envoy"
	"github.com/hubgate/hubgate/envoy/module/modulebin"
	"github.com/hubgate/hubgate/internal/envoybin"
	"github.com/hubgate/hubgate/internal/process"
)

// edge is a real Envoy, one worker thread, and whom it asks. All edges are
// configured alike but for that, and share the servers' processor with it.
type edge struct {
	https, mqtt string
	envoy       *process.Process
	asks        *server // nil: nobody
}

// edge gives the Envoy of that name: "hubgate" and "stock" ask those; "none" has
// no ext_authz at all; "module" is "hubgate" with hubgate's library.
func (w *world) edge(ctx context.Context, name string) (*edge, error) {
	if e, ok := w.edges[name]; ok {
		return e, nil
	}
	e := &edge{}
	var err error
	switch name {
	case "module":
		e.asks, err = w.server(ctx, "hubgate")
	case "none":
	default:
		e.asks, err = w.server(ctx, name)
	}
	if err != nil {
		return nil, err
	}
	if err := w.startEnvoy(ctx, e, name); err != nil {
		return nil, err
	}
	w.edges[name] = e
	return e, nil
}

func (w *world) startEnvoy(ctx context.Context, e *edge, name string) error {
	if err := w.startUpstreams(ctx); err != nil {
		return err
	}
	at, err := freeAddresses(2)
	if err != nil {
		return err
	}
	e.https, e.mqtt = at[0], at[1]
	identity, err := w.own.root.Server("*." + domain)
	if err != nil {
		return err
	}
	dir := filepath.Join(w.dir, "envoy-"+name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	certificate, key, err := identity.WriteFiles(dir, "server")
	if err != nil {
		return err
	}
	o := envoy.Options{
		Domain:       domain,
		HTTPS:        &envoy.HTTPS{Listen: e.https, Backends: []string{w.backend}},
		MQTT:         &envoy.MQTT{Listen: e.mqtt, Brokers: []string{w.broker}},
		Certificates: []envoy.KeyPair{{Certificate: certificate, Key: key}},
		NodeID:       "envoy-" + name,
		Hubgate:      envoy.Hubgate{CheckTimeout: stepTimeout},
	}
	if e.asks != nil {
		o.Hubgate.Addresses = []string{e.asks.address}
	}
	if name == "module" {
		library, err := modulebin.Path(ctx)
		if err != nil {
			return err
		}
		o.Module = &envoy.Module{Library: library, Links: []string{e.asks.link}}
	}
	config, err := envoy.Bootstrap(o)
	if err != nil {
		return err
	}
	switch name {
	case "stock":
		config, err = without(config, "access_log", "access_log_options")
	case "none":
		config, err = without(config, "access_log", "access_log_options", "ext_authz")
	}
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "envoy.yaml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return err
	}
	binary, err := envoybin.Path(ctx, os.Stderr)
	if err != nil {
		return err
	}
	e.envoy, err = w.start(ctx, serverCPUs(), process.Spec{
		Name: "Envoy", Path: binary,
		Args: []string{"-c", file, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"},
		Ready: func(ctx context.Context) error {
			return errors.Join(process.Accepts(e.https)(ctx), process.Accepts(e.mqtt)(ctx))
		},
	})
	return err
}

// without takes settings of these keys out of an Envoy's configuration, and
// filters whose name ends so.
func without(config []byte, words ...string) ([]byte, error) {
	var tree any
	if err := yaml.Unmarshal(config, &tree); err != nil {
		return nil, err
	}
	var prune func(node any) any
	prune = func(node any) any {
		switch n := node.(type) {
		case map[string]any:
			for _, w := range words {
				delete(n, w)
			}
			for k, v := range n {
				n[k] = prune(v)
			}
		case []any:
			var rest []any
			for _, v := range n {
				if !named(v, words) {
					rest = append(rest, prune(v))
				}
			}
			return rest
		}
		return node
	}
	return yaml.Marshal(prune(tree))
}

func named(node any, words []string) bool {
	m, _ := node.(map[string]any)
	name, _ := m["name"].(string)
	for _, w := range words {
		if strings.HasSuffix(name, "."+w) {
			return true
		}
	}
	return false
}

// startUpstreams starts what is behind every Envoy: an HTTP server that answers
// nothing, and an MQTT broker that lets everybody in.
func (w *world) startUpstreams(ctx context.Context) error {
	if w.backend != "" {
		return nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	backend := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ReadHeaderTimeout: time.Minute}
	go func() { _ = backend.Serve(l) }()
	w.closers = append(w.closers, func() { _ = backend.Close() })
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/mosquitto"); err != nil {
			return errors.New("mosquitto is missing; install it with: apt-get install mosquitto")
		}
	}
	self, err := user.Current()
	if err != nil {
		return err
	}
	at, err := freeAddresses(1)
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(at[0])
	if err != nil {
		return err
	}
	file := filepath.Join(w.dir, "mosquitto.conf")
	// Started by root, it would change to a user that cannot read its files.
	config := fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous true\nuser %s\npersistence false\nset_tcp_nodelay true\nlog_dest none\n", port, self.Username)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	if _, err := w.start(ctx, generatorCPU(), process.Spec{
		Name: "mosquitto", Path: path, Args: []string{"-c", file}, Log: io.Discard, Ready: process.Accepts(at[0]),
	}); err != nil {
		return err
	}
	w.backend, w.broker = l.Addr().String(), at[0]
	return nil
}
