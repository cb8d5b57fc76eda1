package inject

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// options is what a pod's annotations ask for.
type options struct {
	image string
	// Resources in their four annotations; when any is set they replace the
	// values' resources as a whole, so that no request exceeds a limit that
	// was meant for another request.
	resources    corev1.ResourceRequirements
	hasResources bool

	logLevel      string
	nativeSidecar *bool
	rewriteProbes *bool
	mergeMetrics  *bool
	proxyConfig   string // YAML of annotation proxy.istio.io/config
	discovery     string
	template      string // what is injected: sidecarTemplate or gatewayTemplate

	// Redirection; nil leaves the value of the mesh.
	includeOutboundCIDRs, excludeOutboundCIDRs *string
	includeInboundPorts, excludeInboundPorts   *string
	excludeOutboundPorts                       *string

	readiness readinessOptions
	warnings  []string
}

// readinessOptions are the numbers of the sidecar's readiness probe; zero is
// the default of each, seconds and counts.
type readinessOptions struct {
	initialDelay, period, failures int32
}

// annotation reads one annotation's value into options. An error says what is
// wrong with the value; the caller puts the annotation's name in front.
type annotation func(value string, o *options) error

// known returns the annotations that injection honours.
func known() map[string]annotation {
	return map[string]annotation{
		InjectName:       func(string, *options) error { return nil }, // read by Decide
		StatusAnnotation: func(string, *options) error { return nil },

		"sidecar.istio.io/proxyImage":            readImage,
		"sidecar.istio.io/proxyCPU":              readQuantity(corev1.ResourceCPU, false),
		"sidecar.istio.io/proxyCPULimit":         readQuantity(corev1.ResourceCPU, true),
		"sidecar.istio.io/proxyMemory":           readQuantity(corev1.ResourceMemory, false),
		"sidecar.istio.io/proxyMemoryLimit":      readQuantity(corev1.ResourceMemory, true),
		"sidecar.istio.io/logLevel":              readLogLevel,
		"sidecar.istio.io/agentLogLevel":         readLogLevel,
		"sidecar.istio.io/nativeSidecar":         readSwitch(func(o *options, b bool) { o.nativeSidecar = &b }),
		"sidecar.istio.io/rewriteAppHTTPProbers": readSwitch(func(o *options, b bool) { o.rewriteProbes = &b }),
		"prometheus.istio.io/merge-metrics":      readSwitch(func(o *options, b bool) { o.mergeMetrics = &b }),
		"sidecar.istio.io/discoveryAddress":      func(v string, o *options) error { o.discovery = v; return hostPort(v) },
		"sidecar.istio.io/interceptionMode":      only("REDIRECT", "traffic is taken by redirection only"),
		templatesAnnotation:                      readTemplate,
		"status.sidecar.istio.io/port":           only("15020", "the port of the status server is fixed"),
		"proxy.istio.io/config":                  func(v string, o *options) error { o.proxyConfig = v; return nil },

		"traffic.sidecar.istio.io/includeOutboundIPRanges": readCIDRs(true, func(o *options, s string) { o.includeOutboundCIDRs = &s }),
		"traffic.sidecar.istio.io/excludeOutboundIPRanges": readCIDRs(false, func(o *options, s string) { o.excludeOutboundCIDRs = &s }),
		"traffic.sidecar.istio.io/includeInboundPorts":     readPorts(true, func(o *options, s string) { o.includeInboundPorts = &s }),
		"traffic.sidecar.istio.io/excludeInboundPorts":     readPorts(false, func(o *options, s string) { o.excludeInboundPorts = &s }),
		"traffic.sidecar.istio.io/excludeOutboundPorts":    readPorts(false, func(o *options, s string) { o.excludeOutboundPorts = &s }),

		"readiness.status.sidecar.istio.io/initialDelaySeconds": readCount(0, func(o *options, n int32) { o.readiness.initialDelay = n }),
		"readiness.status.sidecar.istio.io/periodSeconds":       readCount(1, func(o *options, n int32) { o.readiness.period = n }),
		"readiness.status.sidecar.istio.io/failureThreshold":    readCount(1, func(o *options, n int32) { o.readiness.failures = n }),
	}
}

// refused tells whether an annotation, when it is not understood, would change
// who may talk to whom, or where traffic goes.
func refused(name string) bool {
	switch name {
	case "sidecar.istio.io/bootstrapOverride", "istio.io/reroute-virtual-interfaces", "proxy.istio.io/overrides":
		return true
	}
	return strings.HasPrefix(name, "traffic.sidecar.istio.io/")
}

// idle tells whether an annotation is of Istio's families, and so meant for the
// mesh, but harmless when it has no effect.
func idle(name string) bool {
	prefix, _, _ := strings.Cut(name, "/")
	return prefix == "istio.io" || strings.HasSuffix(prefix, ".istio.io")
}

// labelNetwork on a pod names its network, where that is not its cluster's.
const labelNetwork = "topology.istio.io/network"

// idleLabels warns of labels that ask the mesh for something that it does not
// have.
func idleLabels(set map[string]string) []string {
	var warnings []string
	for _, name := range slices.Sorted(maps.Keys(set)) {
		why := ""
		switch name {
		case "istio.io/dataplane-mode":
			if set[name] != "none" {
				why = "the pod is given a sidecar; there is no other way into this mesh"
			}
		case "istio.io/use-waypoint", "istio.io/use-waypoint-namespace", "istio.io/ingress-use-waypoint":
			why = "there are no waypoints in this mesh"
		case "topology.istio.io/cluster":
			why = "a pod is of the cluster that it runs in (values.global.multiCluster.clusterName)"
		case "topology.istio.io/subzone":
			why = "it is a label of nodes; topology.istio.io/locality puts a pod into region.zone.subzone"
		}

		if why != "" {
			warnings = append(warnings, fmt.Sprintf("label %s has no effect: %s", name, why))
		}
	}

	return warnings
}

// readAnnotations reads all of a pod's annotations that steer injection. The
// error names the first annotation, in order of names, that cannot be honoured.
func readAnnotations(set map[string]string) (*options, error) {
	o := &options{}
	table := known()
	for _, name := range slices.Sorted(maps.Keys(set)) {
		read, ok := table[name]
		switch {
		case ok:
			if err := read(strings.TrimSpace(set[name]), o); err != nil {
				return nil, fmt.Errorf("annotation %s: %w", name, err)
			}
		case refused(name):
			return nil, fmt.Errorf("annotation %s: it would change where the pod's traffic goes, and is not supported; remove it", name)
		case idle(name):
			o.warnings = append(o.warnings, fmt.Sprintf("annotation %s has no effect", name))
		}
	}

	for _, res := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		req, hasReq := o.resources.Requests[res]
		limit, hasLimit := o.resources.Limits[res]
		if hasReq && hasLimit && req.Cmp(limit) > 0 {
			return nil, fmt.Errorf("annotation sidecar.istio.io/proxy%s: %s is more than the limit %s in the annotation beside it",
				map[corev1.ResourceName]string{corev1.ResourceCPU: "CPU", corev1.ResourceMemory: "Memory"}[res], req.String(), limit.String())
		}
	}
	return o, nil
}

func readImage(v string, o *options) error {
	if v == "" || strings.ContainsAny(v, " \t\r\n\"'") {
		return fmt.Errorf("%q is not the name of an image", v)
	}
	o.image = v
	return nil
}

func readQuantity(name corev1.ResourceName, limit bool) annotation {
	return func(v string, o *options) error {
		q, err := resource.ParseQuantity(v)
		if err != nil || q.Sign() <= 0 {
			return fmt.Errorf("%q is not a quantity such as 100m or 128Mi", v)
		}

		list := &o.resources.Requests
		if limit {
			list = &o.resources.Limits
		}
		if *list == nil {
			*list = corev1.ResourceList{}
		}
		(*list)[name] = q
		o.hasResources = true
		return nil
	}
}

// readLogLevel takes Istio's forms: a level, or scope:level pairs of which the
// scopes "default" and "all" count here.
func readLogLevel(v string, o *options) error {
	level, err := logLevel(v)
	if err != nil {
		return err
	}
	o.logLevel = level
	return nil
}

func logLevel(v string) (string, error) {
	level := ""
	for _, part := range strings.Split(v, ",") {
		scope, l, scoped := strings.Cut(strings.TrimSpace(part), ":")
		if !scoped {
			scope, l = "default", scope
		}

		switch strings.ToLower(l) {
		case "debug", "trace":
			l = "debug"
		case "info", "":
			l = "info"
		case "warn", "warning":
			l = "warn"
		case "error", "critical", "fatal", "off", "none":
			l = "error"
		default:
			return "", fmt.Errorf("%q is not a log level: debug, info, warn or error", l)
		}

		if scope == "default" || scope == "all" {
			level = l
		}
	}

	return level, nil
}

func readSwitch(set func(*options, bool)) annotation {
	return func(v string, o *options) error {
		b, err := parseBool(v)
		if err != nil {
			return err
		}
		set(o, b)
		return nil
	}
}

func only(value, why string) annotation {
	return func(v string, _ *options) error {
		if v != value {
			return fmt.Errorf("%q is not supported, only %q: %s", v, value, why)
		}
		return nil
	}
}

func readCount(least int32, set func(*options, int32)) annotation {
	return func(v string, o *options) error {
		n, err := strconv.ParseInt(v, 10, 32)
		if err != nil || int32(n) < least {
			return fmt.Errorf("%q is not a number of at least %d", v, least)
		}
		set(o, int32(n))
		return nil
	}
}

func readCIDRs(wildcard bool, set func(*options, string)) annotation {
	return func(v string, o *options) error {
		list, err := cidrList(v, wildcard)
		if err != nil {
			return err
		}
		set(o, list)
		return nil
	}
}

func readPorts(wildcard bool, set func(*options, string)) annotation {
	return func(v string, o *options) error {
		list, err := portList(v, wildcard)
		if err != nil {
			return err
		}
		set(o, list)
		return nil
	}
}

// cidrList checks a comma-separated list of ranges and returns it without
// spaces and host bits; a bare address is a range of one. "*" alone means all,
// where allowed.
func cidrList(v string, wildcard bool) (string, error) {
	if v == "" || v == "*" && wildcard {
		return v, nil
	}

	var out []string
	for _, part := range strings.Split(v, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		if addr, err := netip.ParseAddr(part); err == nil && addr.Zone() == "" {
			part = netip.PrefixFrom(addr, addr.BitLen()).String()
		}
		prefix, err := netip.ParsePrefix(part)
		if err != nil {
			return "", fmt.Errorf("%q is not an IP range such as 10.0.0.0/8", part)
		}
		out = append(out, prefix.Masked().String())
	}

	return strings.Join(out, ","), nil
}

// portList checks a comma-separated list of ports and returns it without
// spaces. "*" alone means all, where allowed.
func portList(v string, wildcard bool) (string, error) {
	if v == "" || v == "*" && wildcard {
		return v, nil
	}

	var out []string
	for _, part := range strings.Split(v, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		if n, err := strconv.ParseUint(part, 10, 16); err != nil || n == 0 {
			return "", fmt.Errorf("%q is not a port between 1 and 65535", part)
		}
		out = append(out, part)
	}
	return strings.Join(out, ","), nil
}

func hostPort(v string) error {
	host, port, ok := strings.Cut(v, ":")
	if n, err := strconv.ParseUint(port, 10, 16); !ok || err != nil || n == 0 || host == "" || strings.ContainsAny(host, " /") {
		return fmt.Errorf("%q is not HOST:PORT", v)
	}
	return nil
}
