package username_test

import (
	"strings"
	"testing"

	"github.com/hubgate/hubgate/brokerauth/username"
	"github.com/hubgate/hubgate/envoy/module/filter"
	"github.com/hubgate/hubgate/provision"
)

const hub = "0b7d5c1e-7f0e-4d53-9d4e-0d9a4b0f7c11"

func deviceID(t *testing.T, name string) string {
	t.Helper()
	id, err := provision.ParseHubID(hub)
	if err != nil {
		t.Fatal(err)
	}
	return provision.DeviceIDOf(id, name).String()
}

func TestRead(t *testing.T) {
	t.Parallel()
	if username.Default != filter.DefaultUserName {
		t.Errorf("the library writes %q", filter.DefaultUserName)
	}
	id := deviceID(t, "SN-1")
	for _, test := range []struct{ form, username, name string }{
		{username.Default, hub + "/SN-1", "SN-1"},
		{username.Default, hub + "/SN 1:é", "SN 1:é"},
		{username.Default, hub + "/", ""},
		{username.Default, hub + "/SN-1/", ""},
		{username.Default, hub + "/SN-1/x", ""},
		{username.Default, hub + "/+", ""},
		{username.Default, "x" + hub + "/SN-1", ""},
		{username.Default, strings.ToUpper(hub) + "/SN-1", ""},
		{username.Default, "{" + hub + "}/SN-1", ""},
		{username.Default, "factory/SN-1", ""},
		{username.Default, hub, ""},
		{username.Default, "", ""},
		{"{device_name}{hub_id}", "SN-1" + hub, "SN-1"},
		{"{device_name}{hub_id}", hub + hub, hub},
		{"a.b:{device_name}:{hub_id}", "a.b:x:y:" + hub, "x:y"},
		{"a.b:{device_name}:{hub_id}", "aab:x:" + hub, ""},
		{"{hub_id}{device_id}{device_name}", hub + id + "SN-1", "SN-1"},
		{"{hub_id}{device_id}{device_name}", hub + id + "SN-2", ""},
	} {
		form, err := username.Parse(test.form)
		if err != nil {
			t.Fatal(err)
		}
		h, name, ok := form.Read(test.username)
		if name != test.name || ok != (name != "") || ok && h.String() != hub || !ok && !h.IsZero() {
			t.Errorf("%s: %q is %s, %q, %t; want %q", test.form, test.username, h, name, ok, test.name)
		}
	}
}

func TestUnfitForms(t *testing.T) {
	t.Parallel()
	for form, want := range map[string]string{
		"keep":                              "needs {hub_id} and {device_name}",
		"{device_id}":                       "needs {hub_id} and {device_name}",
		"{hub_id}/{device_id}":              "needs {hub_id} and {device_name}",
		"{hub_id}/{device_name}{client_id}": "only {hub_id}",
		"{hub_id}/{device_name":             "only {hub_id}",
		"{hub_id}/{device_name}/{hub_id}":   "{hub_id} stands in it twice",
	} {
		if _, err := username.Parse(form); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", form, err, want)
		}
	}
}

// FuzzRead: a name that is read from a user name gives that user name again.
func FuzzRead(f *testing.F) {
	f.Add(hub + "/SN-1")
	form, err := username.Parse(username.Default)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if h, name, ok := form.Read(text); ok && h.String()+"/"+name != text {
			t.Errorf("%q was read as %s, %q", text, h, name)
		}
	})
}
