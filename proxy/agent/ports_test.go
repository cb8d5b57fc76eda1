package agent_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/test/leak"
)

// from asks from a certain address of loopback.
func from(t *testing.T, local, method, url string) int {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}}
	c := &http.Client{
		Timeout: 5 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				return d.DialContext(ctx, network, addr)
			},
		},
	}
	req, err := http.NewRequest(method, url, nil)
	check(t, err)
	resp, err := c.Do(req)
	check(t, err)
	resp.Body.Close()
	return resp.StatusCode
}

// What ends or drains the proxy is for the pod itself. 127.0.0.6 is the address
// of the proxy when it passes on what comes from outside.
func TestWhoMayEndTheProxy(t *testing.T) {
	t.Cleanup(func() { leak.None(t) })
	r := startAgent(t, newDiscovery(t, echoServer(t)), t.TempDir(), nil)
	defer r.end(t)
	for _, page := range []string{"/quitquitquit", "/drain"} {
		url := "http://" + r.addrs.Status + page
		if code := from(t, "127.0.0.6", http.MethodPost, url); code != http.StatusForbidden {
			t.Errorf("POST %s by way of the proxy: %d", page, code)
		}
		if code := from(t, "127.0.0.1", http.MethodGet, url); code != http.StatusMethodNotAllowed {
			t.Errorf("GET %s: %d", page, code)
		}
		for name, addr := range map[string]string{"health": r.addrs.Health, "metrics": r.addrs.Metrics} {
			if code := from(t, "127.0.0.1", http.MethodPost, "http://"+addr+page); code != http.StatusNotFound && code != http.StatusMethodNotAllowed {
				t.Errorf("POST %s on the %s port: %d", page, name, code)
			}
		}
	}
	if !strings.HasPrefix(r.addrs.Admin, "127.0.0.1:") {
		t.Errorf("the admin port is open to others: %s", r.addrs.Admin)
	}
}

func TestPortsSpeakNoHTTP2(t *testing.T) {
	t.Cleanup(func() { leak.None(t) })
	r := startAgent(t, newDiscovery(t, echoServer(t)), t.TempDir(), nil)
	defer r.end(t)
	for name, addr := range map[string]string{
		"status": r.addrs.Status, "health": r.addrs.Health, "metrics": r.addrs.Metrics, "admin": r.addrs.Admin,
	} {
		c, err := net.Dial("tcp", addr)
		check(t, err)
		check(t, c.SetDeadline(time.Now().Add(5*time.Second)))
		_, err = io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
		check(t, err)
		answer, _ := io.ReadAll(c) // cut off is an answer, too
		c.Close()
		if !strings.HasPrefix(string(answer), "HTTP/1.1 4") && !strings.HasPrefix(string(answer), "HTTP/1.1 505") {
			t.Errorf("%s: %q", name, answer)
		}
	}
}

func TestLargeRequestsToThePortsAreRefused(t *testing.T) {
	t.Cleanup(func() {
		// net/http waits so long before it closes a connection whose request
		// it did not read to the end.
		time.Sleep(600 * time.Millisecond)
		leak.None(t)
	})
	r := startAgent(t, newDiscovery(t, echoServer(t)), t.TempDir(), nil)
	defer r.end(t)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	body := strings.NewReader("level=info&junk=" + strings.Repeat("j", 1<<20))
	resp, err := client.Post("http://"+r.addrs.Admin+"/logging", "application/x-www-form-urlencoded", body)
	if err == nil {
		resp.Body.Close()
	}
	if err == nil && resp.StatusCode == http.StatusOK {
		t.Errorf("a form of 1 MiB was taken: %s", resp.Status)
	}
}
