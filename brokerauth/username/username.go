// Package username reads back the user names that hubgate's library in Envoy
// writes into CONNECTs, so that whoever asks with one can be told of the device.
package username

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/hubgate/hubgate/provision"
)

// Default is the form that the library writes if it is not told another.
const Default = "{hub_id}/{device_name}"

// Form is a form of user names. Only one of its fields, the device's name, has
// no fixed length, so where each begins and ends is certain.
type Form struct {
	pattern           *regexp.Regexp
	hub, device, name int // submatches, 0 if there is none
}

// Parse reads a form, as the library has it. Its fields have to tell the device.
func Parse(form string) (*Form, error) {
	const id = `([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})`
	f := &Form{}
	fields := map[string]struct {
		at      *int
		pattern string
	}{
		"hub_id":      {&f.hub, id},
		"device_id":   {&f.device, id},
		"device_name": {&f.name, `([^/+#$]+)`},
	}
	var pattern strings.Builder
	for rest, n := form, 1; ; n++ {
		text, after, ok := strings.Cut(rest, "{")
		pattern.WriteString(regexp.QuoteMeta(text))
		if !ok {
			break
		}
		name, after, ok := strings.Cut(after, "}")
		field, known := fields[name]
		switch {
		case !ok || !known:
			return nil, fmt.Errorf("%q: only {hub_id}, {device_id} and {device_name} can stand in it", form)
		case *field.at != 0:
			return nil, fmt.Errorf("%q: {%s} stands in it twice", form, name)
		}
		*field.at = n
		pattern.WriteString(field.pattern)
		rest = after
	}
	if f.hub == 0 || f.name == 0 {
		return nil, fmt.Errorf("%q: needs {hub_id} and {device_name}, by which a device is found", form)
	}
	f.pattern = regexp.MustCompile(`(?s)\A` + pattern.String() + `\z`)
	return f, nil
}

// Read tells whom a user name names; false if it is not of this form.
func (f *Form) Read(username string) (hub provision.HubID, name string, ok bool) {
	parts := f.pattern.FindStringSubmatch(username)
	if parts == nil {
		return hub, "", false
	}
	hub, err := provision.ParseHubID(parts[f.hub])
	name = parts[f.name]
	if err != nil || f.device != 0 && parts[f.device] != provision.DeviceIDOf(hub, name).String() {
		return provision.HubID{}, "", false
	}
	return hub, name, true
}
