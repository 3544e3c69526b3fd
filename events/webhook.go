package events

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"

	"github.com/hubgate/hubgate/events/endpoint"
	"github.com/hubgate/hubgate/provision"
)

// WebhookConfig is what a webhook sink is made of. Label and URL are required.
type WebhookConfig struct {
	// Label tells the sink from others; it is called webhook:<Label>.
	Label string
	// URL gets a POST for each event.
	URL string
	// SecretFile holds the secrets that sign requests, one a line; see endpoint.Sign.
	// "": requests are not signed.
	SecretFile string
	// TokenFile holds a bearer token; "": none.
	TokenFile string
	TLS       TLS
	// Severity is the least that is sent: "" or info for all, error.
	Severity provision.Severity
	// Timeout bounds a request. 0: DefaultTimeout.
	Timeout time.Duration
	// Proxy is the one for a request. Nil: as the environment says (HTTPS_PROXY).
	Proxy func(*http.Request) (*url.URL, error)
	// Now is the clock of signatures. Nil: time.Now.
	Now func() time.Time
}

// Webhook is a sink that posts CloudEvents (1.0, structured mode). It counts as
// taken what is answered with 2xx.
type Webhook struct {
	config WebhookConfig
	url    *url.URL
	client *http.Client
}

// NewWebhook makes a webhook sink. It does not connect.
func NewWebhook(c WebhookConfig) (*Webhook, error) {
	u, err := endpoint.Webhook(c.URL)
	if err != nil {
		return nil, err
	}
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	if c.Now == nil {
		c.Now = time.Now
	}
	w := &Webhook{config: c, url: u}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 16
	if c.Proxy != nil {
		transport.Proxy = c.Proxy
	}
	if u.Scheme == "https" {
		transport.DialTLSContext = w.dialTLS
		transport.TLSClientConfig = c.TLS.lasting(u.Hostname()) // through a proxy
		transport.ForceAttemptHTTP2 = false
	}
	w.client = &http.Client{
		Transport: transport,
		// Nobody but the configuration says where events go.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return w, nil
}

// Name implements Sink.
func (w *Webhook) Name() string { return "webhook:" + w.config.Label }

// Wants implements Sink.
func (w *Webhook) Wants(e provision.Event) bool { return meets(w.config.Severity, e) }

// Deliver implements Sink.
func (w *Webhook) Deliver(ctx context.Context, events []provision.Event) (int, error) {
	for i, e := range events {
		if err := w.post(ctx, e); err != nil {
			return i, err
		}
	}
	return len(events), nil
}

// CloudEvent is the event as a webhook gets it.
func CloudEvent(e provision.Event) (cloudevents.Event, error) {
	c := cloudevents.New(cloudevents.CloudEventsVersionV1)
	c.SetID(e.ID)
	c.SetSource("/hubs/" + e.Hub.String())
	c.SetType("hubgate." + string(e.ObjectType) + "." + e.Reason)
	c.SetSubject(e.ObjectID)
	c.SetTime(e.Time)
	if err := c.SetData(cloudevents.ApplicationJSON, e); err != nil {
		return c, err
	}
	return c, c.Validate()
}

func (w *Webhook) post(ctx context.Context, e provision.Event) error {
	c, err := CloudEvent(e)
	if err != nil {
		return &Refusal{err}
	}
	body, err := json.Marshal(c)
	if err != nil {
		return &Refusal{err}
	}
	ctx, cancel := context.WithTimeout(ctx, w.config.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", cloudevents.ApplicationCloudEventsJSON)
	request.Header.Set("User-Agent", "hubgate")
	if err := w.authorize(request, e.ID, body); err != nil {
		return err
	}
	response, err := w.client.Do(request)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err // its text repeats the URL, which may hold a secret
		}
		return fmt.Errorf("post to %s: %w", w.url.Host, err)
	}
	defer func() { _ = response.Body.Close() }()
	// Read to the end, within reason, so that the connection is used again.
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10))
	return w.verdict(response)
}

// authorize signs the request and adds the token.
func (w *Webhook) authorize(request *http.Request, id string, body []byte) error {
	token, err := secret(w.config.TokenFile)
	if err != nil {
		return fmt.Errorf("token_file: %w", err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	if w.config.SecretFile == "" {
		return nil
	}
	text, err := secret(w.config.SecretFile)
	if err != nil {
		return fmt.Errorf("secret_file: %w", err)
	}
	keys, err := endpoint.Secrets(text)
	if err != nil {
		return fmt.Errorf("secret_file: %w", err)
	}
	now := w.config.Now()
	request.Header.Set(endpoint.HeaderID, id)
	request.Header.Set(endpoint.HeaderTimestamp, strconv.FormatInt(now.Unix(), 10))
	request.Header.Set(endpoint.HeaderSignature, endpoint.Sign(keys, id, now, body))
	return nil
}

// verdict is what an answer means for the event.
func (w *Webhook) verdict(r *http.Response) error {
	if r.StatusCode >= 200 && r.StatusCode < 300 {
		return nil
	}
	err := fmt.Errorf("%s answered %s", w.url.Host, r.Status)
	switch r.StatusCode {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return &Refusal{err} // it understood, and this event it will not take
	}
	if after := retryAfter(r.Header.Get("Retry-After"), w.config.Now()); after > 0 {
		return &Busy{err, after}
	}
	return err
}

// mostRetryAfter bounds how long a receiver can send us away.
const mostRetryAfter = 5 * time.Minute

// retryAfter reads the header (RFC 9110, 10.2.3): seconds, or a date.
func retryAfter(text string, now time.Time) time.Duration {
	var after time.Duration
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		after = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		after = at.Sub(now)
	}
	return min(max(after, 0), mostRetryAfter)
}

// dialTLS connects to the receiver, or to a proxy that speaks TLS itself: what is
// configured of the receiver is none of that one's.
func (w *Webhook) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	var of TLS
	if host == w.url.Hostname() {
		of = w.config.TLS
	}
	config, err := of.config(host)
	if err != nil {
		return nil, err
	}
	return tlsDial(ctx, network, address, config)
}

// Close implements Sink.
func (w *Webhook) Close() error {
	w.client.CloseIdleConnections()
	return nil
}
