// Package iot lets those who have administered Scaleway's IoT Hub go on with
// the clients they have: it speaks that service's public REST API, version 1,
// under /iot/v1/regions/{region}/, for hubs, their CAs, and devices. The
// vendor's Go SDK, command line and Terraform provider work with another API
// URL and a hubgate token as secret key; docs/iot-api.md says how.
//
// It translates and decides nothing: what may be done, by whom, and what it
// does is package fleet's, as for the native API.
package iot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/hubgate/hubgate/admin/fleet"
	"github.com/hubgate/hubgate/provision"
)

const (
	// maxBody bounds a request's body.
	maxBody = 1 << 20
	// requestTimeout bounds a request, its body included.
	requestTimeout = 10 * time.Second
)

// Gate tells of the hubs in force. *provision.Gate is one.
type Gate interface {
	// Hub finds one by ID or name.
	Hub(idOrName string) (provision.Hub, bool)
}

// Store lists devices. Which hubs' may be seen, and all else, is the fleet's.
type Store interface {
	Device(ctx context.Context, hub provision.HubID, name string) (provision.Device, error)
	Devices(ctx context.Context, hub provision.HubID, order provision.Order, cursor string, limit int) ([]provision.Device, string, error)
	CountDevices(ctx context.Context, hub provision.HubID) (int, error)
}

// Config is what an API is made of. Fleet, Gate, Store and Region are required.
type Config struct {
	Fleet *fleet.Fleet
	Gate  Gate
	Store Store
	// Domain is what the hubs' endpoints are under: <hub name>.<domain>. Empty:
	// the endpoint is the hub's name alone.
	Domain string
	// Region is the one there is: two letters, a dash, three to seven letters.
	Region string
	// Logger hears of our own failures. Nil: slog.Default.
	Logger *slog.Logger
}

var regionForm = regexp.MustCompile(`^[a-z]{2}-[a-z]{3,7}$`)

// API serves the requests below /iot/. Whoever mounts it puts an
// access.Principal into their contexts. It is safe for concurrent use.
type API struct {
	fleet  *fleet.Fleet
	gate   Gate
	store  Store
	domain string
	region string
	log    *slog.Logger
	places *places
	mux    *http.ServeMux
}

// New makes an API.
func New(c Config) (*API, error) {
	if c.Fleet == nil || c.Gate == nil || c.Store == nil {
		return nil, errors.New("iot: needs a fleet, a gate and a store")
	}
	if !regionForm.MatchString(c.Region) {
		return nil, fmt.Errorf("iot: region %q: has to be two letters, a dash, three to seven letters, as fr-par", c.Region)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	places, err := newPlaces(c.Store.Devices)
	if err != nil {
		return nil, err
	}
	a := &API{fleet: c.Fleet, gate: c.Gate, store: c.Store, domain: c.Domain, region: c.Region, log: c.Logger, places: places}
	a.mux = a.routes()
	return a, nil
}

// ServeHTTP answers a request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// endpoint answers one request: a value to send as JSON, nil for none, or an
// error for the table of failures.
type endpoint func(r *http.Request) (any, error)

func (a *API) routes() *http.ServeMux {
	const (
		region = "/iot/v1/regions/{region}"
		hub    = region + "/hubs/{hub}"
		device = region + "/devices/{device}"
	)
	mux := http.NewServeMux()
	allowed := make(map[string][]string) // methods by path
	handle := func(method, path string, e endpoint) {
		mux.HandleFunc(method+" "+path, a.answer(e))
		allowed[path] = append(allowed[path], method)
	}
	handle("GET", region+"/hubs", a.listHubs)
	handle("POST", region+"/hubs", a.createHub)
	handle("GET", hub, a.getHub)
	handle("PATCH", hub, a.updateHub)
	handle("DELETE", hub, a.deleteHub)
	handle("POST", hub+"/enable", a.enableHub)
	handle("POST", hub+"/disable", a.disableHub)
	handle("GET", hub+"/metrics", not(noMetrics))
	handle("GET", hub+"/ca", a.getHubCA)
	handle("POST", hub+"/ca", a.setHubCA)
	handle("GET", region+"/devices", a.listDevices)
	handle("POST", region+"/devices", a.createDevice)
	handle("GET", device, a.getDevice)
	handle("PATCH", device, a.updateDevice)
	handle("DELETE", device, a.deleteDevice)
	handle("POST", device+"/enable", a.enableDevice)
	handle("POST", device+"/disable", a.disableDevice)
	handle("GET", device+"/metrics", not(noMetrics))
	handle("POST", device+"/renew-certificate", not(noSigning))
	handle("GET", device+"/certificate", a.getDeviceCertificate)
	handle("PUT", device+"/certificate", a.setDeviceCertificate)
	for path, methods := range allowed {
		allow := strings.Join(methods, ", ")
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Allow", allow)
			(&failure{status: http.StatusMethodNotAllowed, Type: "method_not_allowed", Message: "use " + allow + " here"}).send(w)
		})
	}
	for path, text := range unsupported {
		mux.HandleFunc(region+path, a.answer(not(text)))
		mux.HandleFunc(region+path+"/", a.answer(not(text)))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		f := notFound("path", r.URL.Path)
		f.Message += ": hubgate serves hubs and devices under /iot/v1/regions/" + a.region + "/"
		f.send(w)
	})
	return mux
}

// answer bounds a request in size and time and sends what the endpoint says.
func (a *API) answer(e endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if region := r.PathValue("region"); region != a.region {
			f := notFound("region", region)
			f.Message += ": this hubgate's is " + a.region
			f.send(w)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		value, err := e(r.WithContext(ctx))
		switch {
		case err != nil:
			a.fail(w, r, err)
		case value == nil:
			w.WriteHeader(http.StatusNoContent)
		default:
			sendJSON(w, http.StatusOK, value)
		}
	}
}
