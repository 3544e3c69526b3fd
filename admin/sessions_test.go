package admin

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/provision"
)

// edge is an Envoy with the library.
var edge = provision.EnvoyID{Node: "edge-1", Epoch: "00112233445566778899aabbccddeeff"}

// open puts an open connection of a device of the hub on record.
func (r *rig) open(hub, name string, envoy provision.EnvoyID, edit ...func(*provision.Session)) provision.Session {
	r.t.Helper()
	id := provision.DeclaredHubID(hub)
	now := time.Now()
	s := provision.Session{
		ID: uuid.Must(uuid.NewV7()).String(), Hub: id, Device: provision.DeviceIDOf(id, name), DeviceName: name,
		Protocol: provision.TCP, Envoy: envoy, Connection: 7, Source: netip.MustParseAddr("192.0.2.7"),
		Since: now, LastActivity: now, Confirmed: true,
	}
	for _, e := range edit {
		e(&s)
	}
	if err := r.store.RenewEnvoy(r.t.Context(), envoy, time.Minute); err != nil {
		r.t.Fatal(err)
	}
	if _, _, err := r.store.PutSession(r.t.Context(), s); err != nil {
		r.t.Fatal(err)
	}
	return s
}

func TestSessionsAreListed(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	var all, ofA []string
	for _, hub := range []string{"a", "b"} {
		for i := range 5 {
			name := fmt.Sprintf("SN-%d", i)
			r.connect(hub, name)
			s := r.open(hub, name, edge)
			all = append(all, s.ID)
			if hub == "a" {
				ofA = append(ofA, s.ID)
			}
		}
	}
	slices.Sort(all)
	for _, tt := range []struct {
		query string
		want  []string
	}{{"", all}, {"hub=a", ofA}, {"hub=" + provision.DeclaredHubID("a").String(), ofA}} {
		for _, limit := range []int{1, 2, 3, 5, 10, 1000} {
			var got []string
			for cursor := ""; ; {
				var page Sessions
				r.get(fmt.Sprintf("/v1/sessions?%s&limit=%d&cursor=%s", tt.query, limit, url.QueryEscape(cursor)), &page)
				if len(page.Sessions) > limit {
					t.Errorf("%d sessions in a page of %d", len(page.Sessions), limit)
				}
				for _, s := range page.Sessions {
					got = append(got, s.ID)
				}
				if cursor = page.Next; cursor == "" {
					break
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, tt.want) {
				t.Errorf("%q by %d: listed %d sessions, want %d", tt.query, limit, len(got), len(tt.want))
			}
		}
	}

	var page Sessions
	r.get("/v1/sessions?hub=a&limit=1", &page)
	got := page.Sessions[0]
	if got.DeviceName != "SN-0" || got.HubName != "a" || got.HubID != provision.DeclaredHubID("a").String() || got.Protocol != "tcp" || got.Source != "192.0.2.7" ||
		got.Node != "edge-1" || got.Connection != 7 || !got.Confirmed || !got.CanBeEnded || got.Since.IsZero() || got.LastActivityAt.IsZero() {
		t.Errorf("listed %+v", got)
	}
	status, text := r.do("GET", "/v1/sessions?cursor="+url.QueryEscape(page.Next), "")
	if status != 400 || !strings.Contains(text, "is none of this list") {
		t.Errorf("another list's cursor: %d %s", status, text)
	}
	if status, text := r.do("GET", "/v1/sessions?hub=c", ""); status != 404 || !strings.Contains(text, `hub \"c\" not found`) {
		t.Errorf("no such hub: %d %s", status, text)
	}
	if status, text := r.do("GET", "/v1/sessions?limit=0", ""); status != 400 || !strings.Contains(text, "from 1 to 1000") {
		t.Errorf("limit 0: %d %s", status, text)
	}
}

func TestDevicesTellWhetherTheyAreConnected(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for _, name := range []string{"off", "on", "pending"} {
		r.connect("a", name)
	}
	seen := time.Now().Add(time.Minute).UTC().Truncate(time.Second)
	r.open("a", "on", edge)
	r.open("a", "on", edge, func(s *provision.Session) { s.LastActivity = seen })
	r.open("a", "pending", edge, func(s *provision.Session) { s.Confirmed = false })
	var list Devices
	r.get("/v1/hubs/a/devices", &list)
	for i, want := range []bool{false, true, false} {
		var one Device
		r.get("/v1/hubs/a/devices/"+list.Devices[i].Name, &one)
		for _, d := range []Device{list.Devices[i], one} {
			if d.IsConnected != want || (d.LastActivityAt != nil) != want {
				t.Errorf("device %s: connected %v, last activity %v", d.Name, d.IsConnected, d.LastActivityAt)
			}
			if want && !d.LastActivityAt.Equal(seen) {
				t.Errorf("device %s: last activity %v, want %v", d.Name, d.LastActivityAt, seen)
			}
		}
	}
}

func TestEndingSessions(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.connect("a", "SN-1")
	ahead := func(s *provision.Session) { s.Since = s.Since.Add(2 * time.Second) } // by another host's clock
	first, second := r.open("a", "SN-1", edge), r.open("a", "SN-1", provision.EnvoyID{Node: "edge-2", Epoch: provision.LoggedEpoch + "x"}, ahead)
	status, text := r.do("POST", "/v1/hubs/a/devices/SN-1/end-sessions", "")
	var ended Sessions
	if err := json.Unmarshal([]byte(text), &ended); err != nil || status != 200 || len(ended.Sessions) != 2 ||
		ended.Sessions[0].ID != first.ID || !ended.Sessions[0].CanBeEnded || ended.Sessions[1].ID != second.ID || ended.Sessions[1].CanBeEnded {
		t.Fatalf("%d %s (%v)", status, text, err)
	}
	d, err := r.store.DeviceByID(t.Context(), first.Hub, first.Device)
	if err != nil {
		t.Fatal(err)
	}
	hub, _ := r.gate.Hub("a")
	for _, s := range []provision.Session{first, second} {
		if got := provision.MustEnd(s, &hub, &d, time.Now()); got != provision.EndOrdered {
			t.Errorf("session of %s: %q", s.Envoy.Node, got)
		}
	}
	next := second
	next.Since = second.Since.Add(time.Millisecond)
	if got := provision.MustEnd(next, &hub, &d, time.Now()); got != "" {
		t.Errorf("a later session: %q", got)
	}
	events, err := r.store.Events(t.Context(), hub.ID.Partition(r.store.Partitions()), 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	if last := events[len(events)-1].Event; last.Reason != "disconnected" || last.Message != "device was disconnected" {
		t.Errorf("event %+v", last)
	}
	if status, text := r.do("POST", "/v1/hubs/a/devices/SN-9/end-sessions", ""); status != 404 {
		t.Errorf("no such device: %d %s", status, text)
	}
}
