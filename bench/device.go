package main

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/hubgate/hubgate/internal/pki"
)

// stepTimeout bounds each step of a connection.
const stepTimeout = 20 * time.Second

// device is a chip as Envoy meets it. It must cost less than Envoy does, so it
// does not look at the server's certificate, and writes what it says as bytes.
type device struct {
	name   string
	config *tls.Config
}

func newDevice(chip *pki.Identity) *device {
	pair := chip.TLSWith(presented(chip)[1:]...)
	return &device{chip.Certificate.Subject.CommonName, &tls.Config{
		MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519}, ServerName: sni,
		InsecureSkipVerify:   true, //nolint:gosec // who the server is, is not what is measured
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil },
	}}
}

// connection is an open one. It is used by one goroutine.
type connection struct {
	*tls.Conn
	in *bufio.Reader
}

func (d *device) dial(address string) (*connection, error) {
	conn, err := net.DialTimeout("tcp", address, stepTimeout)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(stepTimeout)); err != nil {
		return nil, err
	}
	c := tls.Client(conn, d.config)
	return &connection{c, bufio.NewReaderSize(c, 2048)}, nil // it shakes hands when it first writes
}

// hangUp ends a connection the way that leaves this side no port that waits:
// thousands a second would use them up.
func (c *connection) hangUp() {
	if t, ok := c.NetConn().(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.NetConn().Close()
}

const request = "GET /telemetry HTTP/1.1\r\nHost: " + sni + "\r\nUser-Agent: sensor\r\n\r\n"

// get makes one request.
func (c *connection) get() error {
	if err := c.SetDeadline(time.Now().Add(stepTimeout)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, request); err != nil {
		return err
	}
	response, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the request was answered with %s", response.Status)
	}
	return nil
}

// connect greets the broker, MQTT 3.1.1.
func (c *connection) connect(clientID string) error {
	text := func(s string) string { return string(binary.BigEndian.AppendUint16(nil, uint16(len(s)))) + s }
	body := text("MQTT") + "\x04\x02\x00\x00" + text(clientID)
	if _, err := io.WriteString(c, "\x10"+string([]byte{byte(len(body))})+body); err != nil {
		return err
	}
	var ack [4]byte
	if _, err := io.ReadFull(c.in, ack[:]); err != nil {
		return err
	}
	if ack != [4]byte{0x20, 2, 0, 0} {
		return fmt.Errorf("the broker answered %x", ack)
	}
	return nil
}
