package stub

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream"
)

// forward opens a way to a port of a pod through the API server, as kubectl
// port-forward does, calls do with a local address, and closes the way again.
func (c *cluster) forward(ctx context.Context, pod *corev1.Pod, port int32, do func(addr string) error) error {
	url := c.kube.CoreV1().RESTClient().Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("portforward").URL()
	transport, upgrader, err := spdy.RoundTripperFor(c.config)
	if err != nil {
		return fmt.Errorf("port-forward to %s: %w", pod.Name, err)
	}
	overHTTP := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, url)

	// What goes wrong comes back as an error; the library's log is not needed.
	quiet := klog.NewContext(ctx, logr.Discard())
	quiet, stop := context.WithCancel(quiet)
	defer stop()

	overWebSocket, err := portforward.NewSPDYOverWebsocketDialerForStreamingWithLogger(logr.Discard(), url, c.config)
	if err != nil {
		return fmt.Errorf("port-forward to %s: %w", pod.Name, err)
	}

	// As kubectl does it: by WebSocket where the API server knows it, else by
	// SPDY.
	dialer := portforward.NewFallbackDialerForStreaming(overWebSocket, overHTTP, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	ready := make(chan struct{})
	fw, err := portforward.NewOnAddressesForStreamingWithContext(quiet, dialer, []string{"127.0.0.1"}, []string{fmt.Sprintf("0:%d", port)}, ready, io.Discard, io.Discard)
	if err != nil {
		return fmt.Errorf("port-forward to %s: %w", pod.Name, err)
	}

	done := make(chan error, 1)
	go func() { done <- fw.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-done:
		return fmt.Errorf("port-forward to %s: %w", pod.Name, err)
	case <-ctx.Done():
		<-done
		return fmt.Errorf("port-forward to %s: %w", pod.Name, ctx.Err())
	}
	defer func() { stop(); <-done }()

	ports, err := fw.GetPorts()
	if err != nil {
		return fmt.Errorf("port-forward to %s: %w", pod.Name, err)
	}
	return do(fmt.Sprintf("127.0.0.1:%d", ports[0].Local))
}

// dnsPort is the container port on which a CoreDNS pod serves TCP.
func dnsPort(p *corev1.Pod) int32 {
	for _, port := range coreDNS(p).Ports {
		if port.Name == "dns-tcp" {
			return port.ContainerPort
		}
	}
	return 53
}

// lookupTimeout bounds one question; a CoreDNS that forwards gives up on its
// upstream after five seconds.
const lookupTimeout = 6 * time.Second

// lookup asks a CoreDNS pod, over TCP, for the TXT record of a name.
func (c *cluster) lookup(ctx context.Context, pod *corev1.Pod, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout+4*time.Second)
	defer cancel()

	answer := ""
	err := c.forward(ctx, pod, dnsPort(pod), func(addr string) error {
		q := new(dns.Msg)
		q.SetQuestion(dns.Fqdn(name), dns.TypeTXT)
		in, _, err := (&dns.Client{Net: "tcp", Timeout: lookupTimeout}).ExchangeContext(ctx, q, addr)
		if err != nil {
			return fmt.Errorf("ask %s for %s: %w", pod.Name, name, err)
		}
		for _, rr := range in.Answer {
			if txt, ok := rr.(*dns.TXT); ok {
				answer = strings.Join(txt.Txt, " ")
				return nil
			}
		}
		return fmt.Errorf("%s answers %s for %s", pod.Name, dns.RcodeToString[in.Rcode], name)
	})

	return answer, err
}

// buildInfo is the metric in which CoreDNS tells its version.
var buildInfo = regexp.MustCompile(`^coredns_build_info\{.*version="([^"]+)"`)

// buildVersion asks a CoreDNS pod's metrics for its version.
func (c *cluster) buildVersion(ctx context.Context, pod *corev1.Pod) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()

	version := ""
	err := c.forward(ctx, pod, 9153, func(addr string) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
		if err != nil {
			return err
		}

		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Do(req)
		if err != nil {
			return fmt.Errorf("metrics of %s: %w", pod.Name, err)
		}
		defer resp.Body.Close()

		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if m := buildInfo.FindStringSubmatch(lines.Text()); m != nil {
				version = m[1]
				return nil
			}
		}
		return fmt.Errorf("metrics of %s do not tell its version", pod.Name)
	})

	return version, err
}
