package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/proxy/agent"
)

const (
	thirdPartyToken = "/var/run/secrets/tokens/istio-token"
	firstPartyToken = "/var/run/secrets/kubernetes.io/serviceaccount/token"
	metaPrefix      = "ISTIO_META_"
)

// settings are the values of sidecar and router: each a flag, with an
// environment variable in its place when the flag is not given.
type settings struct {
	pod, namespace, serviceAccount, ip, trustDomain string
	proxyConfig, discovery, ca, serverName          string
	jwtPolicy, certProvider, tokenFile, rootFile    string
	stateDir, labelsFile, probers, logLevel         string
	logFormat, dnsDomain                            string
	nodeName                                        string
	native, untilIdle, drainAtLeast, stopDelay      string
	maxConnections, scrape                          string
	dnsCapture, dnsAutoAllocate, resolvConf         string
}

// bind declares the flags. Their defaults are the environment's.
func (s *settings) bind(c *call) {
	for _, f := range []struct {
		to                      *string
		flag, env, def, explain string
	}{
		{&s.pod, "pod-name", "POD_NAME", "", "name of the pod"},
		{&s.namespace, "pod-namespace", "POD_NAMESPACE", "", "namespace of the pod"},
		{&s.serviceAccount, "service-account", "SERVICE_ACCOUNT", "", "service account of the pod"},
		{&s.ip, "ip", "INSTANCE_IP", "", "address of the pod (default: that of its first interface)"},
		{&s.nodeName, "node-name", "NODE_NAME", "", "name of the node that the pod runs on"},
		{&s.trustDomain, "trust-domain", "TRUST_DOMAIN", identity.DefaultTrustDomain, "trust domain of the mesh"},
		{&s.dnsDomain, "domain", "DNS_DOMAIN", "cluster.local", "DNS domain of the cluster"},
		{&s.proxyConfig, "proxy-config", "PROXY_CONFIG", "{}", "JSON with discoveryAddress, terminationDrainDuration, concurrency"},
		{&s.discovery, "discovery-address", "", "", "discovery's HOST:PORT (default: that of proxy-config, or " + agent.DefaultDiscovery + ")"},
		{&s.ca, "ca-address", "CA_ADDR", "", "the CA's HOST:PORT (default: discovery's)"},
		{&s.serverName, "discovery-server-name", "", "", "DNS name that discovery's certificate must carry (default: by its address)"},
		{&s.jwtPolicy, "jwt-policy", "JWT_POLICY", identity.JWTThirdParty, "which token proves the pod: third-party-jwt or first-party-jwt"},
		{&s.certProvider, "cert-provider", "PILOT_CERT_PROVIDER", "istiod", "who signs discovery's certificate: istiod"},
		{&s.tokenFile, "token-file", "", "", "service account token (default: by jwt-policy)"},
		{&s.rootFile, "root-file", "", "/var/run/secrets/istio/root-cert.pem", "trust bundle of the mesh"},
		{&s.labelsFile, "labels-file", "", "/etc/istio/pod/labels", "the pod's labels, as the downward API writes them"},
		{&s.stateDir, "state-dir", "", "/etc/istio/proxy", "directory in memory that outlives the container"},
		{&s.probers, "app-probers", "ISTIO_KUBE_APP_PROBERS", "", "JSON of the application's probes"},
		{&s.scrape, "app-metrics", "ISTIO_PROMETHEUS_ANNOTATIONS", "", "JSON of where the application's own metrics are, to be merged with the proxy's"},
		{&s.maxConnections, "max-connections", "ISTHMUS_MAX_CONNECTIONS", "", "connections that may be open at once (default: by the memory that the proxy may use; 0: no limit)"},
		{&s.dnsCapture, "dns-capture", "ISTIO_META_DNS_CAPTURE", "false", "answer DNS for the names of the mesh, at 127.0.0.1:15053 (sidecars only)"},
		{&s.dnsAutoAllocate, "dns-auto-allocate", "ISTIO_META_DNS_AUTO_ALLOCATE", "true",
			"whether ServiceEntries without addresses are given some: discovery gives them to all"},
		{&s.resolvConf, "resolv-conf", "", "/etc/resolv.conf", "the pod's resolv.conf: who is asked for names that the mesh does not know"},
		{&s.native, "native", "NATIVE_SIDECAR", "false", "whether the kubelet ends the application before the proxy (a restartable init container)"},
		{&s.untilIdle, "exit-on-zero-active-connections", "EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "false",
			"at the end, wait for the last connection instead of terminationDrainDuration"},
		{&s.drainAtLeast, "minimum-drain-duration", "MINIMUM_DRAIN_DURATION", "5s", "with exit-on-zero-active-connections: how long to take connections at least"},
		{&s.stopDelay, "application-stop-delay", "APPLICATION_STOP_DELAY", "2s", "how long the hook lasts that holds up the end of the application"},
		{&s.logLevel, "log-level", "LOG_LEVEL", "info", "debug, info, warn or error"},
		{&s.logFormat, "log-format", "LOG_FORMAT", "text", "text or json"},
	} {
		def, explain := f.def, f.explain
		if f.env != "" {
			explain += " [$" + f.env + "]"
			if v, ok := c.env(f.env); ok && v != "" {
				def = v
			}
		}

		c.flags.StringVar(f.to, f.flag, def, explain)
	}
}

// proxyConfig is the part of Istio's ProxyConfig that the proxy itself heeds.
type proxyConfig struct {
	DiscoveryAddress         string   `json:"discoveryAddress"`
	TerminationDrainDuration duration `json:"terminationDrainDuration"`
	Concurrency              *int     `json:"concurrency"`
}

// duration is a protobuf duration in JSON: seconds with the suffix s.
type duration struct{ set *time.Duration }

func (d *duration) UnmarshalJSON(data []byte) error {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a duration like 5s", s)
	}
	d.set = &v
	return nil
}

func parseProxyConfig(s string) (proxyConfig, error) {
	var pc proxyConfig
	dec := json.NewDecoder(bytes.NewReader([]byte(s)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&pc); err != nil {
		return pc, fmt.Errorf("proxy-config: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return pc, errors.New("proxy-config: there is something after the JSON object")
	}
	if pc.Concurrency != nil && *pc.Concurrency < 0 {
		return pc, fmt.Errorf("proxy-config: concurrency %d is negative", *pc.Concurrency)
	}
	return pc, nil
}

// token is the token file by policy.
func (s *settings) token() (string, error) {
	if s.tokenFile != "" {
		return s.tokenFile, nil
	}
	switch s.jwtPolicy {
	case identity.JWTThirdParty:
		return thirdPartyToken, nil
	case identity.JWTFirstParty:
		return firstPartyToken, nil
	}
	return "", fmt.Errorf("jwt-policy: %w", identity.CheckJWTPolicy(s.jwtPolicy))
}

// address is the pod's, given or found.
func (s *settings) address() (netip.Addr, error) {
	// The downward API gives both addresses of a dual-stack pod with commas.
	if first, _, _ := strings.Cut(s.ip, ","); first != "" {
		ip, err := netip.ParseAddr(strings.TrimSpace(first))
		if err != nil {
			return ip, fmt.Errorf("ip: %w", err)
		}
		return ip.Unmap(), nil
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find the pod's address: %w", err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().IsGlobalUnicast() {
			return p.Addr().Unmap(), nil
		}
	}
	return netip.Addr{}, errors.New("find the pod's address: no interface has one; set INSTANCE_IP")
}

// metadata collects the environment's ISTIO_META_ variables.
func metadata(environ []string) map[string]string {
	out := map[string]string{}
	for _, kv := range environ {
		k, v, _ := strings.Cut(kv, "=")
		if key, ok := strings.CutPrefix(k, metaPrefix); ok && key != "" && v != "" {
			out[key] = v
		}
	}
	return out
}

// logger makes the log on standard error. The level may be in Istio's form,
// SCOPE:LEVEL with commas: the default scope's counts.
func (s *settings) logger() (*slog.Logger, *slog.LevelVar, error) {
	level := new(slog.LevelVar)
	name := s.logLevel
	for _, part := range strings.Split(name, ",") {
		scope, l, ok := strings.Cut(part, ":")
		if ok && scope == "default" || ok && name == part {
			name = l
		}
	}
	switch name {
	case "warning":
		name = "warn"
	case "trace":
		name = "debug"
	case "critical", "off", "none", "fatal":
		name = "error"
	}
	if err := level.UnmarshalText([]byte(name)); err != nil {
		return nil, nil, fmt.Errorf("log-level %q: want debug, info, warn or error", s.logLevel)
	}
	opts := &slog.HandlerOptions{Level: level}
	switch s.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, opts)), level, nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, opts)), level, nil
	}
	return nil, nil, fmt.Errorf("log-format %q: want text or json", s.logFormat)
}

// portList writes ports for messages and flags.
func portList(ports []uint16) string {
	out := make([]string, len(ports))
	for i, p := range ports {
		out[i] = strconv.Itoa(int(p))
	}
	return strings.Join(out, ",")
}
