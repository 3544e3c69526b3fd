package iot

import (
	"encoding/pem"
	"errors"
	"net/http"
	"time"

	"github.com/hubgate/hubgate/admin/fleet"
	"github.com/hubgate/hubgate/provision"
)

// never is the last activity of a device that has none: the vendor's, and its
// Terraform provider needs some time.
var never = time.Unix(0, 0).UTC()

func (a *API) showDevice(d fleet.Device) device {
	shown := device{
		ID: d.ID.String(), Name: d.Name, Description: d.Description, Status: deviceEnabled, HubID: d.Hub.String(),
		LastActivityAt: never, IsConnected: d.Connected, AllowInsecure: d.AllowInsecure, HasCustomCertificate: d.Custom != nil,
		AllowMultipleConnections: d.AllowMultipleConnections, MessageFilters: showFilters(d.Filters),
		CreatedAt: d.CreatedAt.UTC(), UpdatedAt: d.UpdatedAt.UTC(), Region: a.region,
	}
	if d.Disabled {
		shown.Status = deviceDisabled
	}
	if d.Connected {
		shown.LastActivityAt = d.LastActivity.UTC()
	}
	return shown
}

// shownDevice is the answer that is one device.
func (a *API) shownDevice(d fleet.Device, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return a.showDevice(d), nil
}

// find finds the device that the path names.
func (a *API) find(r *http.Request) (fleet.Device, error) {
	id, err := parseID("device_id", r.PathValue("device"))
	if err != nil {
		return fleet.Device{}, err
	}
	_, d, err := a.fleet.FindDevice(r.Context(), principal(r), provision.DeviceID{UUID: id})
	return d, err
}

func (a *API) getDevice(r *http.Request) (any, error) { return a.shownDevice(a.find(r)) }

func (a *API) createDevice(r *http.Request) (any, error) {
	var asked createDeviceRequest
	if err := decode(r, &asked); err != nil {
		return nil, err
	}
	hub, err := parseID("hub_id", asked.HubID)
	if err != nil {
		return nil, err
	}
	spec := fleet.DeviceSpec{Name: asked.Name, AllowInsecure: asked.AllowInsecure, AllowMultipleConnections: asked.AllowMultipleConnections}
	if asked.Description != nil {
		spec.Description = *asked.Description
	}
	if asked.MessageFilters != nil {
		if spec.Filters, err = asked.MessageFilters.change(nil); err != nil {
			return nil, err
		}
	}
	d, err := a.fleet.CreateDevice(r.Context(), principal(r), hub.String(), spec)
	if errors.Is(err, provision.ErrNotFound) {
		return nil, notFound("hub", hub.String())
	}
	if err != nil {
		return nil, err
	}
	return createDeviceResponse{Device: a.showDevice(d)}, nil
}

func (a *API) updateDevice(r *http.Request) (any, error) {
	var asked updateDeviceRequest
	if err := decode(r, &asked); err != nil {
		return nil, err
	}
	change := fleet.DeviceChange{
		Description: asked.Description, AllowInsecure: asked.AllowInsecure, AllowMultipleConnections: asked.AllowMultipleConnections,
	}
	return a.changeDevice(r, func(d fleet.Device) (fleet.DeviceChange, error) {
		if asked.HubID != nil && *asked.HubID != d.Hub.String() {
			return change, conflict("device", "a device stays on its hub, as its ID follows from it: delete the device, and it can provision itself on the other hub")
		}
		if asked.MessageFilters != nil {
			filters, err := asked.MessageFilters.change(d.Filters)
			if err != nil {
				return change, err
			}
			change.Filters = &filters
		}
		return change, nil
	})
}

func (a *API) enableDevice(r *http.Request) (any, error)  { return a.setDeviceEnabled(r, true) }
func (a *API) disableDevice(r *http.Request) (any, error) { return a.setDeviceEnabled(r, false) }

func (a *API) setDeviceEnabled(r *http.Request, enabled bool) (any, error) {
	if err := decode(r, &struct{}{}); err != nil {
		return nil, err
	}
	return a.changeDevice(r, func(fleet.Device) (fleet.DeviceChange, error) { return fleet.DeviceChange{Enabled: &enabled}, nil })
}

func (a *API) changeDevice(r *http.Request, change func(fleet.Device) (fleet.DeviceChange, error)) (any, error) {
	d, err := a.find(r)
	if err != nil {
		return nil, err
	}
	c, err := change(d)
	if err != nil {
		return nil, err
	}
	return a.shownDevice(a.fleet.UpdateDevice(r.Context(), principal(r), d.Hub.String(), d.ID.String(), c))
}

func (a *API) deleteDevice(r *http.Request) (any, error) {
	d, err := a.find(r)
	if err != nil {
		return nil, err
	}
	return nil, a.fleet.DeleteDevice(r.Context(), principal(r), d.Hub.String(), d.ID.String())
}

// getDeviceCertificate gives the custom certificate, if there is one: of another,
// hubgate keeps the hash of the key alone.
func (a *API) getDeviceCertificate(r *http.Request) (any, error) {
	d, err := a.find(r)
	if err != nil {
		return nil, err
	}
	return a.showCertificate(d), nil
}

func (a *API) setDeviceCertificate(r *http.Request) (any, error) {
	var asked setDeviceCertificateRequest
	if err := decode(r, &asked); err != nil {
		return nil, err
	}
	d, err := a.find(r)
	if err != nil {
		return nil, err
	}
	if d, err = a.fleet.SetCustomCertificate(r.Context(), principal(r), d.Hub.String(), d.ID.String(), asked.CertificatePEM); err != nil {
		return nil, err
	}
	return a.showCertificate(d), nil
}

func (a *API) showCertificate(d fleet.Device) deviceCertificateResponse {
	shown := deviceCertificateResponse{Device: a.showDevice(d)}
	if d.Custom != nil {
		shown.CertificatePEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.Custom.DER}))
	}
	return shown
}
