package crl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hubgate/hubgate/events/endpoint"
	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

// maxBytes is what is read of a source at most: a list in PEM is a third larger
// than in DER.
const maxBytes = 2 * trust.MaxCRLBytes

// silence is how long an address may leave a question unanswered at each step: to
// connect, to agree on TLS, to begin with what it has. One that says nothing is not
// to keep a reader for as long as a large list may take.
const silence = 5 * time.Second

// maxRedirects bounds how often an address leads to another.
const maxRedirects = 3

// reader reads files and addresses.
type reader struct {
	networks []netip.Prefix
	anywhere *http.Client
	guarded  *http.Client
}

func newReader(networks []netip.Prefix) *reader {
	r := &reader{networks: networks}
	r.anywhere = newClient(http.ProxyFromEnvironment, nil)
	// A proxy would connect to whatever it is asked to.
	r.guarded = newClient(nil, func(_, address string, _ syscall.RawConn) error { return r.guard(address) })
	return r
}

func newClient(proxy func(*http.Request) (*url.URL, error), control func(network, address string, c syscall.RawConn) error) *http.Client {
	dialer := &net.Dialer{Timeout: silence, Control: control}
	return &http.Client{
		Transport: &http.Transport{
			Proxy: proxy, DialContext: dialer.DialContext, TLSHandshakeTimeout: silence, ResponseHeaderTimeout: silence,
			MaxResponseHeaderBytes: 64 << 10, DisableKeepAlives: true, ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(request *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return fmt.Errorf("it leads on more than %d times", maxRedirects)
			}
			return provision.CheckCRLURL(request.URL.String())
		},
	}
}

// read reads a source. trusted says that its hub is declared in a file: whoever
// wrote that may read files here, and connect to what is next to hubgate.
func (r *reader) read(ctx context.Context, text string, trusted bool) ([]byte, error) {
	if strings.HasPrefix(text, "http://") || strings.HasPrefix(text, "https://") {
		client := r.guarded
		if trusted {
			client = r.anywhere
		}
		return get(ctx, client, text)
	}
	if !trusted {
		return nil, fmt.Errorf("%q is no address", text)
	}
	f, err := os.Open(text)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return readAll(f)
}

func get(ctx context.Context, client *http.Client, address string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", "hubgate")
	request.Header.Set("Accept", "application/pkix-crl, */*;q=0.1")
	response, err := client.Do(request)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err // its text repeats the address
		}
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answered %s", response.Status)
	}
	return readAll(response.Body)
}

func readAll(from io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(from, maxBytes+1))
	if err == nil && len(data) > maxBytes {
		err = fmt.Errorf("it has more than %d bytes", maxBytes)
	}
	return data, err
}

// guard refuses to connect to addresses that only this machine or its
// neighbours have, such as a cloud's metadata service, unless they are allowed.
// It sees the address that was resolved, so that no name leads around it.
func (r *reader) guard(address string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	ip := at.Addr().Unmap().WithZone("")
	if slices.ContainsFunc(r.networks, func(p netip.Prefix) bool { return p.Contains(ip) }) {
		return nil
	}
	if !endpoint.Public(ip) {
		return fmt.Errorf("%s is not a public address; crl.networks in the configuration allows others", ip)
	}
	return nil
}
