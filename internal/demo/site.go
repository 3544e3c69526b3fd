package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/hubgate/hubgate/envoy"
	"github.com/hubgate/hubgate/internal/process"
)

// More files in the demo's directory.
const (
	hubgateConfig = "hubgate.yaml"
	envoyConfig   = "envoy.yaml"
	hubgateLog    = "hubgate.log"
	envoyLog      = "envoy.log"
	authzSocket   = "authz.sock"
	linkSocket    = "link.sock"
	binary        = "hubgate" // a link, so that commands are short to type
)

// startTimeout bounds the start of everything; it takes about a second.
const startTimeout = 30 * time.Second

type siteConfig struct {
	dir            string
	hubgate, envoy string // binaries
	library        string // that Envoy loads
}

// site is what devices connect to.
type site struct {
	dir         string
	https, mqtt string // Envoy's addresses
	metrics     string // hubgate's
	backend     *backend
	broker      *broker
	hubgate     *process.Process
	envoy       *process.Process
	decisions   *decisions
	logs        []*os.File
}

// startSite starts everything, from back to front. What is running when a part
// does not start has been stopped when it returns.
func startSite(ctx context.Context, c siteConfig) (_ *site, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	s := &site{dir: c.dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	ports, err := process.FreePorts(3)
	if err != nil {
		return nil, err
	}
	s.https, s.mqtt, s.metrics = loopback(ports[0]), loopback(ports[1]), loopback(ports[2])
	if s.backend, err = startBackend(ctx); err != nil {
		return nil, err
	}
	if s.broker, err = startBroker(ctx); err != nil {
		return nil, err
	}
	if err := s.startHubgate(ctx, c.hubgate); err != nil {
		return nil, err
	}
	return s, s.startEnvoy(ctx, c.envoy, c.library)
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// startHubgate runs hubgate the way an operator does: with a configuration
// file and nothing else.
func (s *site) startHubgate(ctx context.Context, path string) error {
	config := fmt.Sprintf(`# hubgate serve --config %s
domain: %s
store: bolt:hubgate.db
authz: {listen: "unix://%s"}
link: {listen: "unix://%s"}
metrics: {listen: "%s"}
admin: {listen: "off"}
log: {format: json}
hubs:
  - name: %s
    auto_provisioning: true
    trust_anchors: [%s]
  - name: %s
    auto_provisioning: false
    trust_anchors: [%s]
`, hubgateConfig, domain, s.file(authzSocket), s.file(linkSocket), s.metrics, openHub, openCA, closedHub, closedCA)
	if err := s.write(hubgateConfig, []byte(config)); err != nil {
		return err
	}
	if err := os.Symlink(path, s.file(binary)); err != nil {
		return err
	}
	log, err := s.log(hubgateLog)
	if err != nil {
		return err
	}
	s.decisions = newDecisions(log)
	s.hubgate, err = process.Start(ctx, process.Spec{
		Name: "hubgate", Path: path, Args: []string{"serve", "--config", hubgateConfig, "--drain-delay", "0s"},
		Dir: s.dir, Log: s.decisions, Ready: s.ready,
	})
	return err
}

// ready asks hubgate whether it is.
func (s *site) ready(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.metrics+"/readyz", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("/readyz says %s", response.Status)
	}
	return nil
}

// startEnvoy runs Envoy with what `hubgate envoy config` would print.
func (s *site) startEnvoy(ctx context.Context, path, library string) error {
	config, err := envoy.Bootstrap(envoy.Options{
		Domain:       domain,
		HTTPS:        &envoy.HTTPS{Listen: s.https, Backends: []string{s.backend.address}},
		MQTT:         &envoy.MQTT{Listen: s.mqtt, Brokers: []string{s.broker.address}},
		Certificates: []envoy.KeyPair{{Certificate: s.file(server + ".pem"), Key: s.file(server + ".key")}},
		Hubgate:      envoy.Hubgate{Addresses: []string{"unix://" + s.file(authzSocket)}},
		Module:       &envoy.Module{Library: library, Links: []string{"unix://" + s.file(linkSocket)}},
		NodeID:       "demo",
		AccessLog:    true,
	})
	if err != nil {
		return err
	}
	if err := s.write(envoyConfig, config); err != nil {
		return err
	}
	log, err := s.log(envoyLog)
	if err != nil {
		return err
	}
	s.envoy, err = process.Start(ctx, process.Spec{
		Name: "Envoy", Path: path, Dir: s.dir, Log: log,
		Args: []string{"-c", envoyConfig, "--concurrency", "2", "--disable-hot-restart", "--log-level", "warn"},
		Ready: func(ctx context.Context) error {
			return errors.Join(process.Accepts(s.https)(ctx), process.Accepts(s.mqtt)(ctx))
		},
	})
	return err
}

// stop ends everything that was started, front to back.
func (s *site) stop() error {
	var errs []error
	for _, p := range []*process.Process{s.envoy, s.hubgate} {
		if p != nil {
			errs = append(errs, p.Stop())
		}
	}
	if s.broker != nil {
		errs = append(errs, s.broker.stop())
	}
	if s.backend != nil {
		errs = append(errs, s.backend.stop())
	}
	for _, log := range s.logs {
		errs = append(errs, log.Close())
	}
	return errors.Join(errs...)
}

func (s *site) file(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(name string, text []byte) error {
	return os.WriteFile(s.file(name), text, 0o600)
}

func (s *site) log(name string) (*os.File, error) {
	f, err := os.Create(s.file(name))
	if err == nil {
		s.logs = append(s.logs, f)
	}
	return f, err
}
