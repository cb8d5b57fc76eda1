package stub

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/internal/portforward"
)

// forward opens a way to a port of a pod, calls do with a local address, and
// closes the way again.
func (c *cluster) forward(ctx context.Context, pod *corev1.Pod, port int32, do func(addr string) error) error {
	return portforward.To(ctx, c.kube, c.config, pod.Namespace, pod.Name, int(port), do)
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
