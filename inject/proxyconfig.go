package inject

import (
	"encoding/json"
	"fmt"
	"sort"
	"strconv"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	meshv1alpha1 "istio.io/api/mesh/v1alpha1"
	"sigs.k8s.io/yaml"
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
			err = protojson.Unmarshal(js, own)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("annotation %s: %w", proxyConfigAnnotation, err)
		}
		if mode := own.InterceptionMode; mode != meshv1alpha1.ProxyConfig_REDIRECT {
			return nil, nil, fmt.Errorf("annotation %s: interceptionMode: %s is not supported, only REDIRECT", proxyConfigAnnotation, mode)
		}
		warnings = idleFields(own)
		proto.Merge(merged, own)
	}
	if o.discovery != "" {
		merged.DiscoveryAddress = o.discovery
	}
	if merged.DiscoveryAddress == "" {
		host := "istiod"
		if s.revision() != "default" {
			host += "-" + s.revision()
		}
		merged.DiscoveryAddress = host + "." + s.Values.Global.IstioNamespace + ".svc:15012"
	}
	if err := hostPort(merged.DiscoveryAddress); err != nil {
		return nil, nil, fmt.Errorf("discoveryAddress: %w", err)
	}
	return merged, warnings, nil
}

func idleFields(pc *meshv1alpha1.ProxyConfig) []string {
	honoured := honouredProxyConfig()
	var warnings []string
	pc.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if !honoured[fd.Name()] {
			warnings = append(warnings, fmt.Sprintf("annotation %s: %s has no effect", proxyConfigAnnotation, fd.JSONName()))
		}
		return true
	})
	sort.Strings(warnings)
	return warnings
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
