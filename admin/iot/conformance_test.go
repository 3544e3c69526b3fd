package iot_test

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	sdk "github.com/scaleway/scaleway-sdk-go/api/iot/v1"
	"github.com/scaleway/scaleway-sdk-go/scw"

	"github.com/hubgate/hubgate/internal/pki"
	"github.com/hubgate/hubgate/provision"
)

var update = flag.Bool("update", false, "write the table of docs/iot-api.md anew")

// document holds the table, between these marks.
const (
	document = "../../docs/iot-api.md"
	begin    = "<!-- table -->\n"
	end      = "<!-- end of table -->\n"
)

// scene is what a method acts on: a hub with a CA and a device, and another hub.
type scene struct {
	t           *testing.T
	world       *world
	hub, second *sdk.Hub
	device      *sdk.Device
	ca          *pki.Authority // installed
}

func (w *world) scene(t *testing.T) *scene {
	t.Helper()
	c := w.as(t, admin)
	s := &scene{t: t, world: w, ca: must(pki.NewRoot("CA of " + newName()))(t)}
	s.hub = must(c.CreateHub(&sdk.CreateHubRequest{Name: newName()}))(t)
	s.second = must(c.CreateHub(&sdk.CreateHubRequest{Name: newName()}))(t)
	s.hub = must(c.SetHubCA(s.install(s.hub.ID, s.ca)))(t)
	s.device = must(c.CreateDevice(&sdk.CreateDeviceRequest{HubID: s.hub.ID, Name: "SN-1"}))(t).Device
	return s
}

// allowCustom has the scene's hub take custom certificates, which the SDK has no
// word for.
func (s *scene) allowCustom() {
	id := must(provision.ParseHubID(s.hub.ID))(s.t)
	h := must(s.world.store.UpdateHub(s.t.Context(), id, func(h *provision.Hub) error {
		h.Policy.CustomCertificates = true
		return nil
	}, func(h provision.Hub) provision.Event { return provision.Updated.OnHub(h, time.Now()) }))(s.t)
	eventually(s.t, "the hub takes custom certificates", func() error {
		if known, ok := s.world.gate.Hub(s.hub.ID); !ok || known.Version < h.Version {
			return errors.New("it is not known yet")
		}
		return nil
	})
}

// install installs a CA on a hub.
func (s *scene) install(hub string, ca *pki.Authority) *sdk.SetHubCARequest {
	return &sdk.SetHubCARequest{HubID: hub, CaCertPem: encode(ca.Certificate), ChallengeCertPem: challenge(s.t, ca, hub)}
}

// variant is a column of the table: what about the call is special.
type variant string

const (
	success  variant = "success"
	missing  variant = "not found"
	conflict variant = "conflict"
	invalid  variant = "invalid argument"
	denied   variant = "role too small"
	unknown  variant = "no such token"
)

var variants = []variant{success, missing, conflict, invalid, denied, unknown}

// method is a row of the table.
type method struct {
	name string
	// call calls it in that variant. The IDs are the scene's, or, missing, of
	// nothing, or, invalid, none.
	call func(s *scene, c *client, v variant, hub, device string) error
	// not are the variants that cannot be.
	not []variant
}

func pick[T any](is bool, then, otherwise T) T {
	if is {
		return then
	}
	return otherwise
}

// methods are those for hubs and devices, in the SDK's order.
var methods = []method{
	{"ListHubs", func(_ *scene, c *client, v variant, _, _ string) error {
		_, err := c.ListHubs(&sdk.ListHubsRequest{OrderBy: pick(v == invalid, "size_asc", sdk.ListHubsRequestOrderByCreatedAtAsc)})
		return err
	}, []variant{missing, conflict, denied}},
	{"CreateHub", func(s *scene, c *client, v variant, _, _ string) error {
		_, err := c.CreateHub(&sdk.CreateHubRequest{Name: pick(v == conflict, s.second.Name, pick(v == invalid, "Not a label", newName()))})
		return err
	}, []variant{missing}},
	{"GetHub", func(_ *scene, c *client, _ variant, hub, _ string) error {
		_, err := c.GetHub(&sdk.GetHubRequest{HubID: hub})
		return err
	}, []variant{conflict, denied}},
	{"UpdateHub", func(s *scene, c *client, v variant, hub, _ string) error {
		_, err := c.UpdateHub(&sdk.UpdateHubRequest{HubID: hub, Name: scw.StringPtr(pick(v == conflict, s.second.Name, newName()))})
		return err
	}, nil},
	{"EnableHub", func(_ *scene, c *client, _ variant, hub, _ string) error {
		_, err := c.EnableHub(&sdk.EnableHubRequest{HubID: hub})
		return err
	}, []variant{conflict}},
	{"DisableHub", func(_ *scene, c *client, _ variant, hub, _ string) error {
		_, err := c.DisableHub(&sdk.DisableHubRequest{HubID: hub})
		return err
	}, []variant{conflict}},
	{"DeleteHub", func(_ *scene, c *client, v variant, hub, _ string) error {
		return c.DeleteHub(&sdk.DeleteHubRequest{HubID: hub, DeleteDevices: scw.BoolPtr(v != conflict)})
	}, nil},
	{"GetHubMetrics", func(_ *scene, c *client, _ variant, hub, _ string) error {
		_, err := c.GetHubMetrics(&sdk.GetHubMetricsRequest{HubID: hub}) //nolint:staticcheck // deprecated, and there
		return err
	}, []variant{missing, conflict, invalid, denied}},
	{"SetHubCA", func(s *scene, c *client, v variant, hub, _ string) error {
		ca := s.ca // once more
		if v != conflict {
			ca = must(pki.NewRoot("another CA"))(s.t)
		}
		_, err := c.SetHubCA(s.install(hub, ca))
		return err
	}, nil},
	{"GetHubCA", func(_ *scene, c *client, _ variant, hub, _ string) error {
		_, err := c.GetHubCA(&sdk.GetHubCARequest{HubID: hub})
		return err
	}, []variant{conflict, denied}},
	{"ListDevices", func(_ *scene, c *client, _ variant, hub, _ string) error {
		_, err := c.ListDevices(&sdk.ListDevicesRequest{HubID: &hub})
		return err
	}, []variant{conflict, denied}},
	{"CreateDevice", func(s *scene, c *client, v variant, hub, _ string) error {
		_, err := c.CreateDevice(&sdk.CreateDeviceRequest{HubID: hub, Name: pick(v == conflict, s.device.Name, "SN-2")})
		return err
	}, nil},
	{"GetDevice", func(_ *scene, c *client, _ variant, _, device string) error {
		_, err := c.GetDevice(&sdk.GetDeviceRequest{DeviceID: device})
		return err
	}, []variant{conflict, denied}},
	{"UpdateDevice", func(s *scene, c *client, v variant, _, device string) error {
		_, err := c.UpdateDevice(&sdk.UpdateDeviceRequest{DeviceID: device, HubID: pick(v == conflict, &s.second.ID, &s.hub.ID)})
		return err
	}, nil},
	{"EnableDevice", func(_ *scene, c *client, _ variant, _, device string) error {
		_, err := c.EnableDevice(&sdk.EnableDeviceRequest{DeviceID: device})
		return err
	}, []variant{conflict}},
	{"DisableDevice", func(_ *scene, c *client, _ variant, _, device string) error {
		_, err := c.DisableDevice(&sdk.DisableDeviceRequest{DeviceID: device})
		return err
	}, []variant{conflict}},
	{"RenewDeviceCertificate", func(_ *scene, c *client, _ variant, _, device string) error {
		_, err := c.RenewDeviceCertificate(&sdk.RenewDeviceCertificateRequest{DeviceID: device})
		return err
	}, []variant{missing, conflict, invalid, denied}},
	{"SetDeviceCertificate", func(s *scene, c *client, v variant, _, device string) error {
		if v != conflict {
			s.allowCustom()
		}
		own := encode(must(s.ca.Leaf("SN-1"))(s.t).Certificate)
		set, err := c.SetDeviceCertificate(&sdk.SetDeviceCertificateRequest{DeviceID: device, CertificatePem: own})
		if err == nil {
			got := must(c.GetDeviceCertificate(&sdk.GetDeviceCertificateRequest{DeviceID: device}))(s.t)
			if set.CertificatePem != own || got.CertificatePem != own || !got.Device.HasCustomCertificate {
				s.t.Errorf("set: %+v, then got: %+v", set, got)
			}
		}
		return err
	}, nil},
	{"GetDeviceCertificate", func(_ *scene, c *client, _ variant, _, device string) error {
		_, err := c.GetDeviceCertificate(&sdk.GetDeviceCertificateRequest{DeviceID: device})
		return err
	}, []variant{conflict, denied}},
	{"DeleteDevice", func(_ *scene, c *client, _ variant, _, device string) error {
		return c.DeleteDevice(&sdk.DeleteDeviceRequest{DeviceID: device})
	}, []variant{conflict}},
	{"GetDeviceMetrics", func(_ *scene, c *client, _ variant, _, device string) error {
		_, err := c.GetDeviceMetrics(&sdk.GetDeviceMetricsRequest{DeviceID: device}) //nolint:staticcheck // deprecated, and there
		return err
	}, []variant{missing, conflict, invalid, denied}},
}

// outcome is what came of a call: the status, and the SDK's own error value.
func outcome(status int, err error) string {
	var plain *scw.ResponseError
	if err == nil || errors.As(err, &plain) {
		return fmt.Sprint(status)
	}
	return fmt.Sprintf("%d %s", status, reflect.Indirect(reflect.ValueOf(err)).Type().Name())
}

// testConformance calls each method in each variant and holds what comes of it
// against the table in the documentation.
func testConformance(t *testing.T, w *world) {
	rows := make([]string, len(methods))
	t.Run("methods", func(t *testing.T) {
		for i, m := range methods {
			t.Run(m.name, func(t *testing.T) {
				t.Parallel()
				cells := []string{m.name}
				for _, v := range variants {
					cells = append(cells, w.cell(t, m, v))
				}
				rows[i] = "| " + strings.Join(cells, " | ") + " |\n"
			})
		}
	})
	if t.Failed() {
		return
	}
	head := "| method |"
	for _, v := range variants {
		head += " " + string(v) + " |"
	}
	table := head + "\n" + strings.Repeat("|---", len(variants)+1) + "|\n" + strings.Join(rows, "")
	text := string(must(os.ReadFile(document))(t))
	before, rest, ok := strings.Cut(text, begin)
	written, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no table", document)
	}
	if written == table {
		return
	}
	if !*update {
		t.Fatalf("the table of %s is another; renew it with: go test ./admin/iot -run IoT -update\n%s", document, table)
	}
	if err := os.WriteFile(document, []byte(before+begin+table+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (w *world) cell(t *testing.T, m method, v variant) string {
	t.Helper()
	for _, not := range m.not {
		if not == v {
			return "–"
		}
	}
	s := w.scene(t)
	c := w.as(t, admin)
	hub, device := s.hub.ID, s.device.ID
	switch v {
	case missing:
		hub, device = uuid.NewString(), uuid.NewString()
	case invalid:
		hub, device = "factory", "SN-1"
	case denied:
		c = w.as(t, viewer)
	case unknown:
		c = w.client(t, uuid.NewString())
	}
	err := m.call(s, c, v, hub, device)
	if (c.status < 300) != (err == nil) {
		t.Fatalf("%s, %s: status %d, error %v", m.name, v, c.status, err)
	}
	if v != success && err == nil {
		t.Errorf("%s, %s: it succeeded", m.name, v)
	}
	return outcome(c.status, err)
}

// testUnsupported: what the SDK has besides is answered with 501 and a sentence.
func testUnsupported(t *testing.T, w *world) {
	c := w.as(t, viewer)
	known := map[string]bool{"Regions": true, "WaitForHub": true}
	for _, m := range methods {
		known[m.name] = true
	}
	api := reflect.ValueOf(c.API)
	others := 0
	for i := range api.NumMethod() {
		name := api.Type().Method(i).Name
		if known[name] {
			continue
		}
		others++
		request := reflect.New(api.Method(i).Type().In(0).Elem())
		for f := range request.Elem().NumField() {
			if field := request.Elem().Field(f); field.Type() == reflect.TypeFor[string]() {
				field.SetString(uuid.NewString())
			}
		}
		results := api.Method(i).Call([]reflect.Value{request})
		err, _ := results[len(results)-1].Interface().(error)
		var plain *scw.ResponseError
		if !errors.As(err, &plain) || plain.StatusCode != http.StatusNotImplemented || !strings.HasPrefix(plain.Message, "hubgate ") {
			t.Errorf("%s: %v, want 501 and a sentence", name, err)
		}
	}
	if others != 15 {
		t.Errorf("%d methods are not supported, want the 15 of routes, networks and twins", others)
	}
}
