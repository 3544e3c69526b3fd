package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/hubgate/hubgate/admin"
	"github.com/hubgate/hubgate/provision"
)

// client speaks the API of package admin.
type client struct {
	http  *http.Client
	close func() error
}

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

func newClient(dial dialer, closed func() error) *client {
	return &client{
		http:  &http.Client{Transport: &http.Transport{DialContext: dial, ResponseHeaderTimeout: 30 * time.Second}},
		close: closed,
	}
}

// apiError is what the API refused.
type apiError struct {
	status  int
	Code    string `json:"error"`
	Message string `json:"message"`
}

func (e *apiError) Error() string { return e.Message }

// open sends a request and returns the response if it is a success. The caller
// closes its body.
func (c *client) open(ctx context.Context, method, path string, query url.Values, body any) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(text)
	}
	address := "http://hubgate" + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, address, content)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(r)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // the address in it is none that a person knows
		}
		return nil, fmt.Errorf("hubgate did not answer: %w", err)
	}
	if response.StatusCode < http.StatusBadRequest {
		return response, nil
	}
	defer func() { _ = response.Body.Close() }()
	refused := &apiError{status: response.StatusCode}
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<16)).Decode(refused); err != nil || refused.Message == "" {
		return nil, fmt.Errorf("hubgate answered %s", response.Status)
	}
	return nil, refused
}

// call sends a request and decodes the answer, unless into is nil.
func (c *client) call(ctx context.Context, method, path string, query url.Values, body, into any) error {
	response, err := c.open(ctx, method, path, query, body)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		return fmt.Errorf("hubgate's answer cannot be read: %w", err)
	}
	return nil
}

func hubPath(hub string) string { return "/v1/hubs/" + url.PathEscape(hub) }

// devicePath addresses a device by ID or name. Two names that a path would
// swallow go by their ID.
func (c *client) devicePath(ctx context.Context, hub, device string) (string, error) {
	if device == "." || device == ".." {
		var h admin.Hub
		if err := c.call(ctx, http.MethodGet, hubPath(hub), nil, nil, &h); err != nil {
			return "", err
		}
		id, err := provision.ParseHubID(h.ID)
		if err != nil {
			return "", err
		}
		device = provision.DeviceIDOf(id, device).String()
	}
	return hubPath(hub) + "/devices/" + url.PathEscape(device), nil
}
