package inject

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	meshv1alpha1 "istio.io/api/mesh/v1alpha1"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/api"
)

// proxyConfigAnnotation overlays one pod's settings on meshConfig.defaultConfig.
const proxyConfigAnnotation = "proxy.istio.io/config"

// honouredProxyConfig are the fields of ProxyConfig that do something. The
// first three reach the proxy; the others shape the container.
func honouredProxyConfig() map[protoreflect.Name]bool {
	return map[protoreflect.Name]bool{
		"discovery_address": true, "termination_drain_duration": true, "concurrency": true,
		"proxy_metadata": true, "hold_application_until_proxy_starts": true,
	}
}

// podProxyConfig merges the pod's annotation over the mesh's default. Fields
// of the annotation that have no effect come back as warnings; fields that do
// not exist are an error.
func podProxyConfig(s *Settings, o *options) (*meshv1alpha1.ProxyConfig, []string, error) {
	merged := proto.CloneOf(s.proxyConfig())
	var warnings []string
	if o.proxyConfig != "" {
		own := &meshv1alpha1.ProxyConfig{}
		js, err := yaml.YAMLToJSONStrict([]byte(o.proxyConfig))
		if err == nil {
			err = protojson.Unmarshal(api.PlainDurations(js, own.ProtoReflect().Descriptor()), own)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("annotation %s: %w", proxyConfigAnnotation, err)
		}
		if mode := own.InterceptionMode; mode != meshv1alpha1.ProxyConfig_REDIRECT {
			return nil, nil, fmt.Errorf("annotation %s: interceptionMode: %s is not supported, only REDIRECT", proxyConfigAnnotation, mode)
		}
		if warnings, err = checkProxyConfig(own); err != nil {
			return nil, nil, fmt.Errorf("annotation %s: %w", proxyConfigAnnotation, err)
		}
		overlayConfig(merged, own)
	}

	if o.discovery != "" {
		merged.DiscoveryAddress = o.discovery
	}

	if merged.DiscoveryAddress == "" {
		host := "istiod"
		if s.revision() != api.DefaultRevision {
			host += "-" + s.revision()
		}
		merged.DiscoveryAddress = host + "." + s.Values.Global.IstioNamespace + ".svc:15012"
	}

	if err := hostPort(merged.DiscoveryAddress); err != nil {
		return nil, nil, fmt.Errorf("discoveryAddress: %w", err)
	}
	return merged, warnings, nil
}

// overlayConfig merges a pod's own settings over the mesh's. proto.Merge alone
// would merge inside a Duration or a wrapper too: "500ms" over 7s would be
// 7.5s, and "concurrency: 0" over 2 would be 2.
func overlayConfig(mesh, own *meshv1alpha1.ProxyConfig) {
	own.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if m := fd.Message(); m != nil && m.ParentFile().Package() == "google.protobuf" {
			mesh.ProtoReflect().Clear(fd)
		}
		return true
	})
	proto.Merge(mesh, own)
}

// refusedProxyConfig gives the reason why a field of a pod's ProxyConfig is
// refused: without what it asks for, the proxy would trust, tell or let through
// what the pod's owner believes it does not. "" for the others.
func refusedProxyConfig(name protoreflect.Name) string {
	switch name {
	case "proxy_headers":
		return "the headers that a proxy adds cannot be chosen"
	case "gateway_topology":
		return "how many proxies stand before this one, and what becomes of their headers, cannot be chosen"
	case "ca_certificates_pem":
		return "a proxy trusts the mesh's root alone"
	case "private_key_provider":
		return "a proxy makes and keeps its key itself, in memory"
	case "control_plane_auth_policy":
		return "the control plane is always reached over mutual TLS"
	case "custom_config_file", "proxy_bootstrap_template_path", "runtime_values":
		return "the proxy is not Envoy and reads no bootstrap configuration"
	}
	return ""
}

// checkProxyConfig refuses the fields of a pod's own configuration that must not
// be ignored, and warns of those that change nothing.
func checkProxyConfig(pc *meshv1alpha1.ProxyConfig) (warnings []string, err error) {
	// Range has no order; a message for people is to be the same each time.
	var set []protoreflect.FieldDescriptor
	pc.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		set = append(set, fd)
		return true
	})
	slices.SortFunc(set, func(a, b protoreflect.FieldDescriptor) int { return cmp.Compare(a.Number(), b.Number()) })

	honoured := honouredProxyConfig()
	for _, fd := range set {
		switch why := refusedProxyConfig(fd.Name()); {
		case why != "":
			return nil, fmt.Errorf("%s is not supported: %s; remove it", fd.JSONName(), why)
		case fd.Name() == "status_port" && pc.StatusPort == statusPort:
		case !honoured[fd.Name()]:
			warnings = append(warnings, fmt.Sprintf("annotation %s: %s has no effect", proxyConfigAnnotation, fd.JSONName()))
		}
	}

	for _, name := range slices.Sorted(maps.Keys(pc.ProxyMetadata)) {
		warning, err := checkEnv(name)
		if err != nil {
			return nil, fmt.Errorf("proxyMetadata: %w", err)
		}
		if warning != "" {
			warnings = append(warnings, fmt.Sprintf("annotation %s: proxyMetadata: %s", proxyConfigAnnotation, warning))
		}
	}

	slices.Sort(warnings)
	return warnings, nil
}

// proxyConfigJSON is what the proxy reads from its environment.
func proxyConfigJSON(pc *meshv1alpha1.ProxyConfig) (string, error) {
	// Durations in proto JSON form: "5s".
	out := struct {
		DiscoveryAddress         string `json:"discoveryAddress"`
		TerminationDrainDuration string `json:"terminationDrainDuration,omitempty"`
		Concurrency              *int32 `json:"concurrency,omitempty"`
	}{DiscoveryAddress: pc.DiscoveryAddress}

	if d := pc.TerminationDrainDuration; d != nil {
		if err := d.CheckValid(); err != nil || d.AsDuration() < 0 {
			return "", fmt.Errorf("terminationDrainDuration: %v is not a duration", d)
		}
		out.TerminationDrainDuration = strconv.FormatFloat(d.AsDuration().Seconds(), 'f', -1, 64) + "s"
	}

	if pc.Concurrency != nil {
		if pc.Concurrency.Value < 0 {
			return "", fmt.Errorf("concurrency: %d is negative", pc.Concurrency.Value)
		}
		out.Concurrency = &pc.Concurrency.Value
	}
	b, err := json.Marshal(out)
	return string(b), err
}
