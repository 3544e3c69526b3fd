package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

// probeFlags say what of an installation to look at.
type probeFlags struct {
	ready, authz, https, mqtt []string
	ca, cert, key, name       string
	sni, serverCA             string
	deviceCert, deviceKey     string
	timeout                   time.Duration
}

func newProbe(std streams) *cobra.Command {
	var f probeFlags
	c := &cobra.Command{
		Use:   "probe",
		Short: "Tell whether an installation works, Envoy included",
		Long: `Look at an installation from outside, as helm test and the health checks of
containers do: is hubgate ready, does it answer Envoy, and does Envoy ask it.

At an Envoy's listener the probe is a stranger: it presents a certificate that
it has just signed itself, and hubgate has to refuse it, over MQTT by the TLS
alert access_denied. Nothing is created. With --device-cert it then connects as
that device as well, which has to get in; a device that hubgate does not know
yet provisions itself by that.

What does not work is tried again until --timeout.`,
		Example: `  hubgate probe --ready http://127.0.0.1:9193/readyz
  hubgate probe --authz hubgate:9191 --ca ca.crt --cert tls.crt --key tls.key
  hubgate probe --https gateway:443 --mqtt gateway:8883`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c.Context(), std) },
	}
	flags := c.Flags()
	flags.SortFlags = false
	flags.StringArrayVar(&f.ready, "ready", nil, "URL that has to answer 200; may be repeated, as all of these")
	flags.StringArrayVar(&f.authz, "authz", nil, "address of hubgate (authz.listen), whose gRPC health has to be SERVING")
	flags.StringVar(&f.ca, "ca", "", "CA of hubgate's certificate, PEM; switches TLS on")
	flags.StringVar(&f.cert, "cert", "", "Envoy's certificate towards hubgate, PEM")
	flags.StringVar(&f.key, "key", "", "its private key")
	flags.StringVar(&f.name, "name", "", "name in hubgate's certificate (default: host of the address)")
	flags.StringArrayVar(&f.https, "https", nil, "address of an Envoy's HTTPS listener")
	flags.StringArrayVar(&f.mqtt, "mqtt", nil, "address of an Envoy's MQTT listener")
	flags.StringVar(&f.sni, "server-name", "", "name that devices ask for, such as factory.iot.example.com (default: host of the address)")
	flags.StringVar(&f.serverCA, "server-ca", "", "CA of Envoy's certificate, PEM (default: it is not verified)")
	flags.StringVar(&f.deviceCert, "device-cert", "", "chain of a device that has to get in, PEM")
	flags.StringVar(&f.deviceKey, "device-key", "", "its private key")
	flags.DurationVar(&f.timeout, "timeout", 30*time.Second, "how long to try")
	return c
}

// probing is one thing to look at: what it found, or what is wrong.
type probing struct {
	what, where string
	look        func(context.Context, string) (string, error)
}

func (f *probeFlags) run(ctx context.Context, std streams) error {
	probings, err := f.probings()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	var t table
	failed := 0
	for _, p := range probings {
		found, err := p.insist(ctx)
		if err != nil {
			failed++
			found = "FAILED: " + err.Error()
		}
		t.row(p.what, p.where, found)
	}
	if err := t.print(std.out); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %s failed", failed, count(len(probings), "probe"))
	}
	return nil
}

func (f *probeFlags) probings() ([]probing, error) {
	var list []probing
	add := func(what string, where []string, look func(context.Context, string) (string, error)) {
		for _, w := range where {
			list = append(list, probing{what, w, look})
		}
	}
	stranger, err := newStranger()
	if err != nil {
		return nil, err
	}
	client, err := f.hubgateTLS()
	if err != nil {
		return nil, err
	}
	servers, err := f.servers()
	if err != nil {
		return nil, err
	}
	add("ready", f.ready, probeReady)
	add("authz", f.authz, func(ctx context.Context, address string) (string, error) { return probeHealth(ctx, address, client) })
	refused := visitor{certificate: stranger, servers: servers, sni: f.sni}
	add("https", f.https, refused.refusedHTTPS)
	add("mqtt", f.mqtt, refused.refusedMQTT)
	if f.deviceCert != "" || f.deviceKey != "" {
		pair, err := tls.LoadX509KeyPair(f.deviceCert, f.deviceKey)
		if err != nil {
			return nil, fmt.Errorf("--device-cert, --device-key: %w", err)
		}
		device := visitor{certificate: pair, servers: servers, sni: f.sni}
		add("device https", f.https, device.admittedHTTPS)
		add("device mqtt", f.mqtt, device.admittedMQTT)
	}
	if len(list) == 0 {
		return nil, &usageError{errors.New("nothing to probe: name it with --ready, --authz, --https or --mqtt")}
	}
	return list, nil
}

// insist looks until it is content or the context ends, and then tells what was
// wrong last.
func (p probing) insist(ctx context.Context) (string, error) {
	const pause = 200 * time.Millisecond
	var last error
	for {
		attempt, cancel := context.WithTimeout(ctx, 10*time.Second)
		found, err := p.look(attempt, p.where)
		cancel()
		if err == nil {
			return found, nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return "", last
		case <-time.After(pause):
		}
	}
}

func probeReady(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	text, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
	switch {
	case err != nil:
		return "", err
	case response.StatusCode != http.StatusOK:
		return "", fmt.Errorf("%s: %.200s", response.Status, text)
	}
	return fmt.Sprintf("%.60s", text), nil
}

// hubgateTLS is how the probe passes for an Envoy; nil is cleartext.
func (f *probeFlags) hubgateTLS() (*tls.Config, error) {
	if f.ca == "" {
		if f.cert != "" || f.key != "" || f.name != "" {
			return nil, &usageError{errors.New("--cert, --key, --name: need --ca")}
		}
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: f.name}
	var err error
	if c.RootCAs, err = pool("--ca", f.ca); err != nil {
		return nil, err
	}
	if f.cert != "" || f.key != "" {
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, fmt.Errorf("--cert, --key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

func (f *probeFlags) servers() (*x509.CertPool, error) {
	if f.serverCA == "" {
		return nil, nil
	}
	return pool("--server-ca", f.serverCA)
}

func pool(flag, file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: %s holds no certificate in PEM form", flag, file)
	}
	return p, nil
}

func probeHealth(ctx context.Context, address string, client *tls.Config) (string, error) {
	guard := insecure.NewCredentials()
	if client != nil {
		guard = credentials.NewTLS(client)
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(guard))
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	answer, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{})
	if err != nil {
		return "", err
	}
	if answer.Status != healthv1.HealthCheckResponse_SERVING {
		return "", fmt.Errorf("its health is %s", answer.Status)
	}
	return "serving", nil
}

// newStranger makes a device that nobody vouches for.
func newStranger() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "hubgate-probe"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// visitor is a device at an Envoy's listener.
type visitor struct {
	certificate tls.Certificate
	servers     *x509.CertPool // nil: the server is not verified
	sni         string
}

func (v visitor) config(address string) *tls.Config {
	name := v.sni
	if host, _, err := net.SplitHostPort(address); err == nil && name == "" {
		name = host
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: v.servers, ServerName: name,
		// A probe tells nobody a secret, and often has no CA at hand.
		InsecureSkipVerify: v.servers == nil, //nolint:gosec // see above
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &v.certificate, nil // whatever CAs the server names
		},
	}
}

// request asks for / and returns the status and, if hubgate refused, why.
func (v visitor) request(ctx context.Context, address string) (status string, refusal struct {
	Reason   string
	Decision string `json:"decision_id"`
}, err error) {
	transport := &http.Transport{
		TLSClientConfig: v.config(address), DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}
	host := address
	if v.sni != "" {
		host = v.sni
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/", nil)
	if err != nil {
		return "", refusal, err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return "", refusal, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err == nil && (response.StatusCode == http.StatusForbidden || response.StatusCode >= 500) {
		_ = json.Unmarshal(body, &refusal) // Envoy's own answers are no JSON
	}
	return response.Status, refusal, err
}

func (v visitor) refusedHTTPS(ctx context.Context, address string) (string, error) {
	status, refusal, err := v.request(ctx, address)
	switch {
	case err != nil:
		return "", err
	case strings.HasPrefix(status, "403") && refusal.Decision != "":
		return "hubgate refuses a stranger: " + refusal.Reason, nil
	case strings.HasPrefix(status, "5"):
		return "", fmt.Errorf("no decision: %s %s", status, refusal.Reason)
	case strings.HasPrefix(status, "2"):
		return "", fmt.Errorf("a stranger got in: %s; this listener does not ask hubgate", status)
	}
	return "", fmt.Errorf("%s, which hubgate did not say; this listener does not ask hubgate", status)
}

func (v visitor) admittedHTTPS(ctx context.Context, address string) (string, error) {
	status, refusal, err := v.request(ctx, address)
	switch {
	case err != nil:
		return "", err
	case refusal.Decision != "":
		return "", fmt.Errorf("the device is refused: %s, decision %s", refusal.Reason, refusal.Decision)
	case strings.HasPrefix(status, "5"):
		return "", fmt.Errorf("the backend, or the way to it, fails: %s", status)
	}
	return "the device is admitted; the backend says " + status, nil
}

// knock sends an MQTT CONNECT and returns the CONNACK's return code.
func (v visitor) knock(ctx context.Context, address string) (code byte, err error) {
	conn, err := (&tls.Dialer{Config: v.config(address)}).DialContext(ctx, "tcp", address)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return 0, err
		}
	}
	// MQTT 3.1.1, clean session, keep-alive 30 s, client ID "hubgate-probe".
	if _, err := io.WriteString(conn, "\x10\x19\x00\x04MQTT\x04\x02\x00\x1e\x00\x0dhubgate-probe"); err != nil {
		return 0, err
	}
	var answer [4]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return 0, err
	}
	if answer[0] != 0x20 {
		return 0, fmt.Errorf("the answer to an MQTT CONNECT is %#x, which is no CONNACK", answer)
	}
	return answer[3], nil
}

// accessDenied is the alert's name in crypto/tls (RFC 8446, 6: alert 49).
const accessDenied = "tls: access denied"

func (v visitor) refusedMQTT(ctx context.Context, address string) (string, error) {
	_, err := v.knock(ctx, address)
	switch {
	case err == nil:
		return "", errors.New("a stranger got in; this listener does not ask hubgate")
	case strings.Contains(err.Error(), accessDenied):
		return "hubgate refuses a stranger: TLS alert access_denied", nil
	}
	return "", fmt.Errorf("the connection ended without the TLS alert access_denied: %w", err)
}

func (v visitor) admittedMQTT(ctx context.Context, address string) (string, error) {
	code, err := v.knock(ctx, address)
	switch {
	case err != nil && strings.Contains(err.Error(), accessDenied):
		return "", errors.New("the device is refused: hubgate's log tells why")
	case err != nil:
		return "", err
	}
	return fmt.Sprintf("the device is admitted; the broker's CONNACK says %d", code), nil
}
