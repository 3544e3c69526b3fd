// Package admission asks the hooks that hubs' admission rules name whether an
// unseen device may create itself: over HTTPS, with a JSON question, for a plain
// yes or no. Whatever is no plain answer is none, and then nothing is created.
//
// Hub owners choose the URLs, who need not be those who run hubgate. So a hook is
// asked only at a public address, or in a network that the configuration names;
// redirects are not followed, no proxy is used, and what it answers is for the
// log alone.
package admission

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/hubgate/hubgate/events/endpoint"
	"github.com/hubgate/hubgate/provision"
)

const (
	// timeout bounds a question, whoever waits for the answer.
	timeout = time.Second
	// maxAnswer bounds the body of an answer, and its header.
	maxAnswer = 16 << 10
	// maxMessage bounds what of a hook's message is told, in bytes.
	maxMessage = 200
	// maxAsked bounds the questions to one hook at a time, so that a slow one
	// holds up its own devices only.
	maxAsked = 32
)

// Config is what Hooks are made of. Its zero value is usable.
type Config struct {
	// CAFile holds the CAs of the hooks' certificates; "": the system's. It is
	// read at every connection, so that who renews it need not tell us.
	CAFile string
	// SecretFile holds secrets, one a line, as those of webhooks. What signs a hub's
	// questions is made of them (hubKeys); "": questions are not signed.
	SecretFile string
	// Networks are where hooks may be besides public addresses.
	Networks []netip.Prefix
	// Now is the clock of signatures. Nil: time.Now.
	Now func() time.Time
}

// Hooks asks hooks; it is a provision.Hook.
type Hooks struct {
	config  Config
	client  *http.Client
	flights singleflight.Group
	slots   slots
}

// New makes Hooks. It does not connect.
func New(c Config) *Hooks {
	if c.Now == nil {
		c.Now = time.Now
	}
	h := &Hooks{config: c, slots: newSlots(maxAsked)}
	h.client = &http.Client{
		Transport: &http.Transport{
			DialTLSContext:         h.dialTLS,
			DisableCompression:     true,
			MaxIdleConnsPerHost:    maxAsked,
			MaxIdleConns:           8 * maxAsked,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: maxAnswer,
		},
		// Nobody but the rule says who is asked.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return h
}

// question is the body of a request. It is a contract.
type question struct {
	HubID       string `json:"hub_id"`
	HubName     string `json:"hub_name"`
	DeviceID    string `json:"device_id"`
	DeviceName  string `json:"device_name"`
	Certificate string `json:"certificate"` // PEM
	IssuerKey   string `json:"issuer_key"`
	AnchorKey   string `json:"anchor_key"`
	Source      string `json:"source_address,omitempty"`
	Decision    string `json:"decision_id"`
}

// Ask implements provision.Hook. The same question, asked at once by several
// connections of one device, is sent once.
func (h *Hooks) Ask(ctx context.Context, hook string, q provision.HookQuestion) (provision.HookAnswer, error) {
	flight := h.flights.DoChan(flightKey(hook, q), func() (answer any, err error) {
		defer func() { // on this goroutine nobody else recovers
			if p := recover(); p != nil {
				answer, err = provision.HookAnswer{}, fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
		}()
		// It may outlive this call, and must not end with it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
		defer cancel()
		return h.ask(ctx, hook, q)
	})
	select {
	case <-ctx.Done():
		return provision.HookAnswer{}, fmt.Errorf("hook %s: %w", hook, ctx.Err())
	case r := <-flight:
		if r.Err != nil {
			return provision.HookAnswer{}, fmt.Errorf("hook %s: %w", hook, r.Err)
		}
		return r.Val.(provision.HookAnswer), nil
	}
}

// flightKey is the same for questions that differ in the decision alone.
func flightKey(hook string, q provision.HookQuestion) string {
	leaf := sha256.Sum256(q.Leaf)
	return strings.Join([]string{hook, q.Device.String(), string(leaf[:]), q.Source, q.Issuer.String(), q.Anchor.String()}, "\x00")
}

func (h *Hooks) ask(ctx context.Context, hook string, q provision.HookQuestion) (provision.HookAnswer, error) {
	release, err := h.slots.take(ctx, q.Hub.String()+hook)
	if err != nil {
		return provision.HookAnswer{}, err
	}
	defer release()
	body, err := json.Marshal(question{
		HubID: q.Hub.String(), HubName: q.HubName, DeviceID: q.Device.String(), DeviceName: q.DeviceName,
		Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: q.Leaf})),
		IssuerKey:   q.Issuer.String(), AnchorKey: q.Anchor.String(), Source: q.Source, Decision: q.Decision,
	})
	if err != nil {
		return provision.HookAnswer{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, hook, bytes.NewReader(body))
	if err != nil {
		return provision.HookAnswer{}, err
	}
	if request.URL.Scheme != "https" {
		return provision.HookAnswer{}, errors.New("its URL is not https")
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "hubgate")
	if err := h.sign(request, q, body); err != nil {
		return provision.HookAnswer{}, err
	}
	response, err := h.client.Do(request)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err // its text repeats the URL
		}
		return provision.HookAnswer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	return read(response)
}

// sign signs the question, if there is a secret.
func (h *Hooks) sign(request *http.Request, q provision.HookQuestion, body []byte) error {
	if h.config.SecretFile == "" {
		return nil
	}
	text, err := os.ReadFile(h.config.SecretFile)
	if err != nil {
		return fmt.Errorf("hook_secret_file: %w", err)
	}
	keys, err := endpoint.Secrets(string(text))
	if err != nil {
		return fmt.Errorf("hook_secret_file: %w", err)
	}
	now, id := h.config.Now(), q.Decision
	request.Header.Set(endpoint.HeaderID, id)
	request.Header.Set(endpoint.HeaderTimestamp, strconv.FormatInt(now.Unix(), 10))
	request.Header.Set(endpoint.HeaderSignature, endpoint.Sign(hubKeys(keys, q.Hub), id, now, body))
	return nil
}

// hubKeys are the keys that sign the questions of one hub: of each, the
// HMAC-SHA256 of the hub's ID. Who runs a hook is told its hub's, and could sign
// questions to other tenants' hooks if it were the same.
func hubKeys(keys [][]byte, hub provision.HubID) [][]byte {
	own := make([][]byte, len(keys))
	for i, key := range keys {
		mac := hmac.New(sha256.New, key)
		_, _ = mac.Write([]byte(hub.String())) // a hash never fails
		own[i] = mac.Sum(nil)
	}
	return own
}

// read reads an answer: 200 with {"allow": true}, or {"allow": false} and
// perhaps a message.
func read(r *http.Response) (provision.HookAnswer, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxAnswer+1))
	switch {
	case err != nil:
		return provision.HookAnswer{}, err
	case r.StatusCode != http.StatusOK:
		return provision.HookAnswer{}, fmt.Errorf("it answered %d", r.StatusCode)
	case len(body) > maxAnswer:
		return provision.HookAnswer{}, fmt.Errorf("its answer has more than %d bytes", maxAnswer)
	}
	var answer struct {
		Allow   *bool  `json:"allow"`
		Message string `json:"message"`
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&answer); err != nil {
		return provision.HookAnswer{}, fmt.Errorf("its answer is not as it should be: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) || answer.Allow == nil {
		return provision.HookAnswer{}, errors.New(`its answer is neither {"allow": true} nor {"allow": false}`)
	}
	return provision.HookAnswer{Allow: *answer.Allow, Message: shown(answer.Message)}, nil
}

// shown quotes what a hook says.
func shown(message string) string {
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage], "") + "…"
	}
	return fmt.Sprintf("the hook says %q", message)
}
