package filter

import (
	"strings"
	"testing"
)

func TestFormatsTellDevicesApart(t *testing.T) {
	all := []string{fieldHub, fieldDevice, fieldName, fieldClient}
	for format, ok := range map[string]bool{
		DefaultUserName: true, DefaultClientID: true, keep: true,
		"{device_id}":                                     true,
		"{client_id}-{device_id}":                         true,
		"{device_id}{client_id}":                          true,
		"{client_id}{device_id}{client_id}":               false,
		"{hub_id}{device_name}":                           true,
		"{device_name}{hub_id}":                           true,
		"{device_name}":                                   false,
		"{hub_id}/{device_name}-{client_id}":              false,
		"{hub_id}/{device_name}{client_id}":               false,
		"{hub_id}/{device_name}/{client_id}":              true,
		"{hub_id}/{device_name}$x{client_id}":             true,
		"{client_id}/{device_name}/{hub_id}":              true,
		"{client_id}{device_name}/{hub_id}":               false,
		"{client_id}-{device_name}/{hub_id}":              false,
		"{device_name}-{client_id}-{device_id}":           true,
		"{device_name}-{client_id}/{hub_id}":              false,
		"{device_name}/{client_id}/{hub_id}":              true,
		"{hub_id}/{client_id}/{device_name}":              true,
		"{hub_id}.{client_id}.{device_name}":              false,
		"{hub_id}/{client_id}/{device_name}.{client_id}/": false,
	} {
		_, err := parseFormat(format, all...)
		if (err == nil) != ok {
			t.Errorf("%s: %v, want it to be good: %t", format, err, ok)
		}
	}
}

// FuzzFormat: where a format is taken, two devices never become the same,
// whatever they say of themselves.
func FuzzFormat(f *testing.F) {
	f.Add("{hub_id}/{device_name}/{client_id}", "a", "b", "c", "d", byte(0))
	f.Add("{hub_id}/{device_name}-{client_id}", "a-b", "c", "a", "b-c", byte(0))
	f.Add("{device_name}-{client_id}-{device_id}", "a", "b", "a-b", "", byte(1))
	f.Fuzz(func(t *testing.T, text, name1, client1, name2, client2 string, hub byte) {
		format, err := parseFormat(text, fieldHub, fieldDevice, fieldName, fieldClient)
		if err != nil || format == nil || strings.ContainsAny(name1+name2, "/+#$") || name1 == name2 && hub == 0 {
			return
		}
		one := identity{hub: strings.Repeat("0", 36), device: strings.Repeat("1", 36), name: name1}
		two := identity{hub: strings.Repeat("0", 35) + string('0'+rune(hub&1)), device: strings.Repeat("2", 36), name: name2}
		if name1 == name2 && hub&1 == 0 {
			return
		}
		if a, b := format.expand(one, client1), format.expand(two, client2); a == b {
			t.Fatalf("%s: %+v with %q and %+v with %q are both %q", text, one, client1, two, client2, a)
		}
	})
}
