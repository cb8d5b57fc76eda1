package httpproxy

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkHTTP1HAProxy runs the load of BenchmarkHTTP1OneHop against haproxy, as the yardstick in the same run.
func BenchmarkHTTP1HAProxy(b *testing.B) {
	bin, err := exec.LookPath("haproxy")
	if err != nil {
		b.Skip("haproxy is not installed")
	}
	addr := refusedAddr(b)
	conf := filepath.Join(b.TempDir(), "haproxy.cfg")
	text := fmt.Sprintf("global\n nbthread 2\n maxconn 1000\ndefaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n"+
		" http-reuse always\nfrontend f\n bind %s\n default_backend b\nbackend b\n server s %s\n", addr, h1Backend(b, 1024))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(bin, "-db", "-f", conf)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	eventually(b, "haproxy to listen", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	load := h1Load(b, addr, 1024)
	load(2000)
	before := processTime(b, cmd.Process.Pid)
	b.ResetTimer()
	load(b.N)
	b.StopTimer()
	b.ReportMetric(float64((processTime(b, cmd.Process.Pid)-before).Microseconds())/float64(b.N), "proxy-µs/req")
}

// processTime returns the user and system time of a process, to the clock tick.
func processTime(b *testing.B, pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}
