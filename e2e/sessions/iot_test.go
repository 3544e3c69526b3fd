package sessions

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/uuid"
	sdk "github.com/scaleway/scaleway-sdk-go/api/iot/v1"
	"github.com/scaleway/scaleway-sdk-go/scw"

	"github.com/hubgate/hubgate/admin/access"
	fleets "github.com/hubgate/hubgate/admin/fleet"
	"github.com/hubgate/hubgate/admin/iot"
	"github.com/hubgate/hubgate/envoy/module/link"
	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
)

// sdkClient is the Go SDK for Scaleway's IoT Hub, of an admin of this hubgate.
func (h *hubgate) sdkClient(t testing.TB) *sdk.API {
	t.Helper()
	const region = "fr-par"
	log := slog.New(slog.DiscardHandler)
	f := must(fleets.New(fleets.Config{Gate: h.gate, Store: h.store, Logger: log}))(t)
	api := must(iot.New(iot.Config{Fleet: f, Gate: h.gate, Store: h.store, Domain: domain, Region: region, Logger: log}))(t)
	secret := uuid.NewString()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Auth-Token") != secret {
			iot.Fail(w, r, http.StatusUnauthorized, "unauthorized", "no such token")
			return
		}
		api.ServeHTTP(w, r.WithContext(access.With(r.Context(), access.Principal{Name: "sdk", Role: access.Admin})))
	}))
	t.Cleanup(server.Close)
	return sdk.NewAPI(must(scw.NewClient(
		scw.WithAPIURL(server.URL), scw.WithAuth("SCWXXXXXXXXXXXXXXXXX", secret), scw.WithDefaultRegion(region),
	))(t))
}

// theSDKsStory is a hub's whole life as its owner's programs tell it, with real
// devices.
func theSDKsStory(t *testing.T, s *site) {
	api := s.sdkClient(t)
	retry := 10 * time.Millisecond
	hub := must(api.CreateHub(&sdk.CreateHubRequest{Name: "sdk-" + uuid.NewString()[:8], ProductPlan: sdk.HubProductPlanPlanShared}))(t)
	hub = must(api.WaitForHub(&sdk.WaitForHubRequest{HubID: hub.ID, RetryInterval: &retry}))(t)
	if hub.Status != sdk.HubStatusReady || hub.Endpoint != hub.Name+"."+domain || hub.HasCustomCa {
		t.Fatalf("the new hub is %+v", hub)
	}
	f := &fleet{hubgate: s.hubgate, root: must(pki.NewRoot("Root of " + hub.Name))(t)}
	f.line = must(f.root.Intermediate("Line of " + hub.Name))(t)
	f.hub = provision.Hub{ID: must(provision.ParseHubID(hub.ID))(t), Name: hub.Name}
	d := f.device(t, "SN-1")
	refused := func(when string) {
		t.Helper()
		if c, err := d.dial(s.edge, dialing{}); err == nil {
			c.close()
			t.Fatalf("%s the device gets in", when)
		} else if !errors.Is(err, errDenied) {
			t.Fatalf("%s the device is not refused, but: %v", when, err)
		}
	}
	refused("before the hub has its CA")

	// Auto-provisioning needs a CA, and the CA a proof.
	enable := &sdk.UpdateHubRequest{HubID: hub.ID, EnableDeviceAutoProvisioning: scw.BoolPtr(true)}
	var unmet *scw.PreconditionFailedError
	if _, err := api.UpdateHub(enable); !errors.As(err, &unmet) {
		t.Fatalf("auto-provisioning without a CA: %v", err)
	}
	proof := must(f.root.Leaf(hub.ID, pki.WithValidity(time.Now().Add(-time.Minute), time.Now().Add(time.Hour))))(t)
	install := &sdk.SetHubCARequest{HubID: hub.ID, CaCertPem: pem(f.root), ChallengeCertPem: string(pki.EncodeCertificates(proof.Certificate))}
	other := must(pki.NewRoot("Root of another"))(t)
	var invalid *scw.InvalidArgumentsError
	if _, err := api.SetHubCA(&sdk.SetHubCARequest{HubID: hub.ID, CaCertPem: pem(other), ChallengeCertPem: install.ChallengeCertPem}); !errors.As(err, &invalid) {
		t.Fatalf("a CA with the challenge of another: %v", err)
	}
	if hub = must(api.SetHubCA(install))(t); !hub.HasCustomCa {
		t.Fatalf("with its CA the hub is %+v", hub)
	}
	if got := must(api.GetHubCA(&sdk.GetHubCARequest{HubID: hub.ID}))(t); got.CaCertPem != install.CaCertPem {
		t.Errorf("the hub's CA is\n%s, want\n%s", got.CaCertPem, install.CaCertPem)
	}
	refused("before auto-provisioning is on")
	must(api.UpdateHub(enable))(t)

	// The device appears by itself.
	c := d.connect(t, s.edge, dialing{})
	listed := func() *sdk.Device {
		t.Helper()
		list := must(api.ListDevices(&sdk.ListDevicesRequest{HubID: &hub.ID}, scw.WithAllPages()))(t)
		if list.TotalCount != 1 || len(list.Devices) != 1 || list.Devices[0].Name != d.name || list.Devices[0].ID != d.id.String() {
			t.Fatalf("listed are %d %+v, want %s", list.TotalCount, list.Devices, d.name)
		}
		return list.Devices[0]
	}
	eventually(t, "it is listed as connected", func() error {
		if found := listed(); !found.IsConnected || found.LastActivityAt.Before(time.Now().Add(-time.Hour)) {
			return fmt.Errorf("it is %+v", found)
		}
		return nil
	})
	eventually(t, "the hub counts it", func() error {
		if h := must(api.GetHub(&sdk.GetHubRequest{HubID: hub.ID}))(t); h.DeviceCount != 1 || h.ConnectedDeviceCount != 1 {
			return fmt.Errorf("the hub is %+v", h)
		}
		return nil
	})

	// Disabling ends its session and refuses the next connection.
	if found := must(api.DisableDevice(&sdk.DisableDeviceRequest{DeviceID: d.id.String()}))(t); found.Status != sdk.DeviceStatusDisabled {
		t.Errorf("disabled, it is %+v", found)
	}
	c.ends(t, int(link.AdministrativeAction))
	refused("disabled")

	// Deleted, it provisions again.
	if err := api.DeleteDevice(&sdk.DeleteDeviceRequest{DeviceID: d.id.String()}); err != nil {
		t.Fatal(err)
	}
	c = d.connect(t, s.edge, dialing{})
	if found := listed(); found.Status != sdk.DeviceStatusEnabled {
		t.Errorf("provisioned again, it is %+v", found)
	}

	// So does the hub end, with what is connected to it.
	if err := api.DeleteHub(&sdk.DeleteHubRequest{HubID: hub.ID}); !errors.As(err, &unmet) {
		t.Fatalf("deleting a hub with devices: %v", err)
	}
	c.ping(t)
	if err := api.DeleteHub(&sdk.DeleteHubRequest{HubID: hub.ID, DeleteDevices: scw.BoolPtr(true)}); err != nil {
		t.Fatal(err)
	}
	c.ends(t, int(link.NotAuthorized))
	var missing *scw.ResourceNotFoundError
	if _, err := api.WaitForHub(&sdk.WaitForHubRequest{HubID: hub.ID, RetryInterval: &retry}); !errors.As(err, &missing) {
		t.Errorf("waiting for the deleted hub: %v", err)
	}
	refused("with its hub gone")
}

func pem(a *pki.Authority) string { return string(pki.EncodeCertificates(a.Certificate)) }
