package main

import (
	"bytes"
	"context"
	"encoding/json"
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
	base  string // address of the API
	token string // "" on the socket, whose file guards it
	who   string // who is asked, for people
	close func() error
}

// answerTimeout bounds how long a request that was sent waits for the begin of
// its answer.
const answerTimeout = 30 * time.Second

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// newClient makes a client of a hubgate on this machine.
func newClient(dial dialer, closed func() error) *client {
	return &client{
		base: "http://hubgate", who: "hubgate",
		http:  newHTTPClient(&http.Transport{DialContext: dial, ResponseHeaderTimeout: answerTimeout}),
		close: closed,
	}
}

// newHTTPClient follows no redirection: hubgate sends none, and wherever it led
// the token would go, too.
func newHTTPClient(t *http.Transport) *http.Client {
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// open sends a request with a JSON body, unless body is nil, and returns the
// response if it is a success. The caller closes its body.
func (c *client) open(ctx context.Context, method, path string, query url.Values, body any) (*http.Response, error) {
	if body == nil {
		return c.send(ctx, method, path, query, nil, "")
	}
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return c.send(ctx, method, path, query, bytes.NewReader(text), "application/json")
}

// send is open with any body.
func (c *client) send(ctx context.Context, method, path string, query url.Values, body io.Reader, contentType string) (*http.Response, error) {
	address := c.base + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	response, err := c.http.Do(r)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if response.StatusCode < http.StatusMultipleChoices {
		return response, nil
	}
	defer func() { _ = response.Body.Close() }()
	refused := &apiError{status: response.StatusCode}
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<16)).Decode(refused); err != nil || refused.Message == "" {
		refused.Message = fmt.Sprintf("%s answered %s, as no hubgate does: is its address right?", c.who, response.Status)
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

// hubs lists all hubs.
func (c *client) hubs(ctx context.Context) (admin.Hubs, error) {
	all := admin.Hubs{Hubs: []admin.Hub{}}
	query := url.Values{}
	for {
		var page admin.Hubs
		if err := c.call(ctx, http.MethodGet, "/v1/hubs", query, nil, &page); err != nil {
			return all, err
		}
		all.Hubs = append(all.Hubs, page.Hubs...)
		if page.Next == "" {
			return all, nil
		}
		query.Set("cursor", page.Next)
	}
}

func hubPath(hub string) string { return "/v1/hubs/" + url.PathEscape(hub) }

// devicePath addresses a device by ID or name. Names that mean something else in
// a path go by their ID.
func (c *client) devicePath(ctx context.Context, hub, device string) (string, error) {
	switch device {
	case ".", "..", "import", "export":
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
