package envoy

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The library's price: the same Envoy with and without it. Run with
//
//	go test -run '^$' -bench Module -benchtime 5s ./envoy
//
// Absolute figures are the test's own more than Envoy's; the difference counts.

// eachEdge runs a benchmark without the library and with it. It reports the
// CPU time that Envoy itself took, which a busy machine changes less than all
// else, and the memory that it has at the end.
func eachEdge(b *testing.B, run func(*testing.B, *edge)) {
	for _, name := range []string{"without", "with"} {
		b.Run(name, func(b *testing.B) {
			var e *edge
			if name == "with" {
				e, _ = startModule(b, Options{})
			} else {
				e = startEdge(b, Options{HTTPS: &HTTPS{}, MQTT: &MQTT{}, AccessLog: true}, startAuthorizer(b))
			}
			before := e.cpu(b)
			b.ResetTimer()
			run(b, e)
			b.ReportMetric(float64((e.cpu(b)-before).Microseconds())/float64(b.N), "envoy-µs/op")
			b.ReportMetric(float64(e.rss(b))/1024, "RSS-MiB")
		})
	}
}

// cpu is the time that Envoy has computed, user and system.
func (e *edge) cpu(b *testing.B) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", e.envoy.Pid()))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	var ticks time.Duration
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			b.Fatal(err)
		}
		ticks += time.Duration(n)
	}
	return ticks * 10 * time.Millisecond
}

// BenchmarkModuleStart does next to nothing, for the RSS of an idle Envoy.
func BenchmarkModuleStart(b *testing.B) {
	eachEdge(b, func(b *testing.B, e *edge) {
		for b.Loop() {
			if conn, err := e.session("device-start"); err == nil {
				_ = conn.Close()
			}
		}
	})
}

// BenchmarkModuleConnect opens connections, with a full handshake, and closes
// them.
func BenchmarkModuleConnect(b *testing.B) {
	eachEdge(b, func(b *testing.B, e *edge) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				conn, err := e.session("device-connect")
				if err != nil {
					b.Error(err)
					return
				}
				_ = conn.Close()
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "connections/s")
	})
}

// BenchmarkModuleOpen keeps connections open, for the memory each takes.
func BenchmarkModuleOpen(b *testing.B) {
	eachEdge(b, func(b *testing.B, e *edge) {
		var open []*tls.Conn
		before := e.rss(b)
		for b.Loop() {
			conn, err := e.session("device-open")
			if err != nil {
				b.Fatal(err)
			}
			open = append(open, conn)
		}
		b.ReportMetric(float64(e.rss(b)-before)/float64(len(open)), "KiB/connection")
		for _, conn := range open {
			_ = conn.Close()
		}
	})
}

// BenchmarkModuleMessages sends small messages there and back, many at a time.
func BenchmarkModuleMessages(b *testing.B) {
	for _, size := range []int{64, 4096} {
		b.Run(fmt.Sprintf("%d-bytes", size), func(b *testing.B) {
			eachEdge(b, func(b *testing.B, e *edge) {
				message := packet(0x30, str("t")+string(make([]byte, size)))
				b.SetBytes(int64(len(message)))
				b.RunParallel(func(pb *testing.PB) {
					conn, err := e.session("device-messages")
					if err != nil {
						b.Error(err)
						return
					}
					const ahead = 16
					back, n := make([]byte, len(message)), 0
					for pb.Next() {
						if _, err := io.WriteString(conn, message); err != nil {
							b.Error(err)
							return
						}
						if n++; n > ahead {
							if _, err := io.ReadFull(conn, back); err != nil {
								b.Error(err)
								return
							}
						}
					}
					_ = conn.Close()
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
			})
		})
	}
}
