package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// Prober is one probe of the application, which the agent runs in the kubelet's
// place: the kubelet has no certificate and could not pass strict mutual TLS.
// Exactly one of the three kinds is set; the fields are those of the Kubernetes
// probe.
type Prober struct {
	HTTPGet        *HTTPGet   `json:"httpGet,omitempty"`
	TCPSocket      *TCPSocket `json:"tcpSocket,omitempty"`
	GRPC           *GRPC      `json:"grpc,omitempty"`
	TimeoutSeconds int        `json:"timeoutSeconds,omitempty"`
}

// HTTPGet asks for a path; 200 to 399 is well.
type HTTPGet struct {
	Path        string   `json:"path,omitempty"`
	Port        Port     `json:"port"`
	Scheme      string   `json:"scheme,omitempty"`
	HTTPHeaders []Header `json:"httpHeaders,omitempty"`
}

// Header is one header of an HTTPGet.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// TCPSocket opens a connection.
type TCPSocket struct {
	Port Port `json:"port"`
}

// GRPC calls grpc.health.v1.Health/Check.
type GRPC struct {
	Port    Port    `json:"port"`
	Service *string `json:"service,omitempty"`
}

// Port is a port number; JSON may have it as a number or as digits in quotes.
type Port uint16

// UnmarshalJSON refuses names: injection has resolved them.
func (p *Port) UnmarshalJSON(data []byte) error {
	n, err := strconv.ParseUint(strings.Trim(string(data), `"`), 10, 16)
	if err != nil || n == 0 {
		return fmt.Errorf("port %s is not a number between 1 and 65535", data)
	}
	*p = Port(n)
	return nil
}

// hookPath is above the paths of lifecycle hooks.
const hookPath = "/app-lifecycle/"

// ParseProbers reads the JSON object of path to prober that injection puts into
// the environment.
func ParseProbers(s string) (map[string]Prober, error) {
	if s == "" {
		return nil, nil
	}

	dec := json.NewDecoder(bytes.NewReader([]byte(s)))
	dec.DisallowUnknownFields()
	var all map[string]Prober
	if err := dec.Decode(&all); err != nil {
		return nil, fmt.Errorf("application probes: %w", err)
	}
	// Decode reads one value and leaves what follows.
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("application probes: there is something after the JSON object")
	}

	for _, path := range slices.Sorted(maps.Keys(all)) {
		if !strings.HasPrefix(path, "/app-health/") && !strings.HasPrefix(path, hookPath) {
			return nil, fmt.Errorf("application probes: path %q is neither below /app-health/ nor below %s", path, hookPath)
		}
		if err := all[path].validate(); err != nil {
			return nil, fmt.Errorf("application probe %s: %w", path, err)
		}
	}
	return all, nil
}

func (p Prober) validate() error {
	kinds := 0
	for _, set := range []bool{p.HTTPGet != nil, p.TCPSocket != nil, p.GRPC != nil} {
		if set {
			kinds++
		}
	}

	if kinds != 1 {
		return errors.New("want one of httpGet, tcpSocket, grpc")
	}
	if p.TimeoutSeconds < 0 {
		return errors.New("timeoutSeconds is negative")
	}

	switch {
	case p.HTTPGet != nil && p.HTTPGet.Port == 0, p.TCPSocket != nil && p.TCPSocket.Port == 0, p.GRPC != nil && p.GRPC.Port == 0:
		return errors.New("port is missing")
	case p.HTTPGet != nil && p.HTTPGet.Scheme != "" && p.HTTPGet.Scheme != "HTTP" && p.HTTPGet.Scheme != "HTTPS":
		return fmt.Errorf("scheme %q: want HTTP or HTTPS", p.HTTPGet.Scheme)
	}
	return nil
}

// probes serves /app-health/ and /app-lifecycle/.
type probes struct {
	ip  netip.Addr // the application's
	all map[string]Prober
	// from is the source address that redirection lets through to the
	// application.
	from netip.Addr
}

func newProbes(ip netip.Addr, all map[string]Prober, redirected bool) *probes {
	p := &probes{ip: ip, all: all}
	if redirected {
		p.from = inboundSource(ip.Unmap())
	}
	return p
}

// ServeHTTP runs the probe or hook of the request's path.
func (p *probes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	pr, ok := p.all[r.URL.Path]
	if !ok {
		http.Error(w, "no such probe: "+r.URL.Path, http.StatusNotFound)
		return
	}

	// The kubelet ends the wait for a hook itself, with the pod.
	ctx, hook := r.Context(), strings.HasPrefix(r.URL.Path, hookPath)
	if !hook {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(max(1, pr.TimeoutSeconds))*time.Second)
		defer cancel()
	}

	code, body, err := p.run(ctx, pr, r.Header)
	if err != nil && hook {
		// For a hook the kubelet takes any answer for success, and none for
		// failure: it must not get one that the application did not give.
		panic(http.ErrAbortHandler)
	}

	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(code)
	_, _ = w.Write(body) // the kubelet shows it in the event of a failure
}

func (p *probes) run(ctx context.Context, pr Prober, h http.Header) (code int, body []byte, err error) {
	switch {
	case pr.HTTPGet != nil:
		return p.httpGet(ctx, pr.HTTPGet, h)
	case pr.TCPSocket != nil:
		conn, err := p.dial(ctx, "tcp", p.address(pr.TCPSocket.Port))
		if err != nil {
			return 0, nil, err
		}
		conn.Close()
		return http.StatusOK, nil, nil
	}

	code, err = p.grpc(ctx, pr.GRPC)
	return code, nil, err
}

func (p *probes) address(port Port) string {
	return netip.AddrPortFrom(p.ip, uint16(port)).String()
}

func (p *probes) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	if p.from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.from, 0))
	}
	return d.DialContext(ctx, network, addr)
}

// probeBody is how much of an answer is read, in bytes: as much as the kubelet
// reads.
const probeBody = 10 << 10

// httpGet asks like the kubelet: certificates are not checked, redirects are
// followed on the application's host, and one to another counts as an answer.
func (p *probes) httpGet(ctx context.Context, g *HTTPGet, h http.Header) (code int, body []byte, err error) {
	req, err := p.request(ctx, g, h)
	if err != nil {
		return 0, nil, err
	}

	client := &http.Client{CheckRedirect: sameHost, Transport: &http.Transport{
		DialContext:       p.dial,
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // as the kubelet: a probe asks for life, not for proof
	}}

	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()

	// An answer that breaks off is one: the status decides.
	body, _ = io.ReadAll(io.LimitReader(resp.Body, probeBody))
	return resp.StatusCode, body, nil
}

// sameHost follows redirects to another port or path, up to ten of them.
func sameHost(next *http.Request, via []*http.Request) error {
	if next.URL.Hostname() != via[0].URL.Hostname() {
		return http.ErrUseLastResponse
	}
	if len(via) >= 10 {
		return errors.New("the application redirects more than ten times")
	}
	return nil
}

// request is what the kubelet would send to the application.
func (p *probes) request(ctx context.Context, g *HTTPGet, h http.Header) (*http.Request, error) {
	scheme := "http"
	if g.Scheme == "HTTPS" {
		scheme = "https"
	}

	path := g.Path
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}

	u, err := url.Parse(scheme + "://" + p.address(g.Port) + path)
	if err != nil {
		return nil, err
	}

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}

	for _, hd := range g.HTTPHeaders {
		if strings.EqualFold(hd.Name, "Host") {
			req.Host = hd.Value
			continue
		}
		req.Header.Add(hd.Name, hd.Value)
	}

	// What the kubelet sends by itself; fields that the probe sets go before.
	for _, name := range []string{"User-Agent", "Accept"} {
		if len(req.Header.Values(name)) == 0 && h.Get(name) != "" {
			req.Header.Set(name, h.Get(name))
		}
	}
	return req, nil
}

func (p *probes) grpc(ctx context.Context, g *GRPC) (int, error) {
	conn, err := grpc.NewClient("passthrough:///"+p.address(g.Port),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return p.dial(ctx, "tcp", addr) }))
	if err != nil {
		return 0, err
	}
	defer conn.Close()

	req := &grpc_health_v1.HealthCheckRequest{}
	if g.Service != nil {
		req.Service = *g.Service
	}

	resp, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, req)
	if err != nil {
		return 0, err
	}
	if resp.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		return 0, fmt.Errorf("the application reports %s", resp.GetStatus())
	}
	return http.StatusOK, nil
}
