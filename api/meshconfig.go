package api

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	meshconfig "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"
)

// honouredMesh are the fields of MeshConfig that change something. Others are
// taken and warned of, by path.
var honouredMesh = fieldSet{
	"accessLogEncoding": nil, "accessLogFile": nil, "accessLogFormat": nil, "connectTimeout": nil,
	"enableAutoMtls": nil, "rootNamespace": nil, "trustDomain": nil, "trustDomainAliases": nil,
	"localityLbSetting":     localityFields,
	"outboundTrafficPolicy": {"mode": nil},
	"tcpKeepalive":          keepaliveFields, "defaultHttpRetryPolicy": nil,
	// What injection and the agent read of it, package inject says.
	"defaultConfig": {
		"discoveryAddress": nil, "terminationDrainDuration": nil, "concurrency": nil, "proxyMetadata": nil,
		"holdApplicationUntilProxyStarts": nil,
	},
	"serviceSettings": nil, "discoverySelectors": nil, "pathNormalization": nil,
	"defaultServiceExportTo": nil, "defaultDestinationRuleExportTo": nil, "defaultVirtualServiceExportTo": nil,
	// Package inject reads it.
	"enablePrometheusMerge": nil,
	// Harmless with OFF, which is so anyway; idleMesh speaks of the others.
	"ingressControllerMode": nil,
}

// LoadMeshConfig reads a MeshConfig in YAML or JSON. A field that does not
// decode is left out and named in the warnings, as are fields that are unknown
// or not honoured: one bad field never drops the others. An error means that
// the text is no YAML mapping at all.
func LoadMeshConfig(text string) (*meshconfig.MeshConfig, []string, error) {
	mc := &meshconfig.MeshConfig{}
	warnings, err := loadLenient(text, mc, "defaultConfig", "outboundTrafficPolicy", "localityLbSetting", "tcpKeepalive", "defaultHttpRetryPolicy")
	if err != nil {
		return nil, nil, fmt.Errorf("mesh configuration: %w", err)
	}
	warnings = append(warnings, settleOutbound(text, mc)...)
	warnings = append(warnings, settleLocality(mc)...)
	warnings = append(warnings, settleConnections(mc)...)
	warnings = append(warnings, settleRetries(mc)...)
	warnings = append(warnings, idleMesh(mc)...)
	warnings = append(warnings, warnVisibility(mc)...)
	var idle problems
	idle.idle(mc.ProtoReflect(), "", honouredMesh)
	warnings = append(warnings, idle...)
	slices.Sort(warnings)
	return mc, warnings, nil
}

// idleMesh notes values without effect of fields that are honoured otherwise.
func idleMesh(mc *meshconfig.MeshConfig) []string {
	var w problems
	switch mc.IngressControllerMode {
	case meshconfig.MeshConfig_STRICT, meshconfig.MeshConfig_DEFAULT:
		w.addf("ingressControllerMode", "%s changes nothing: gateways read no Ingress; give Ingresses to a controller of their own", mc.IngressControllerMode)
	}
	return w
}

// settleLocality leaves a localityLbSetting out that cannot hold, but for its
// switch: half of one would send calls where nobody meant them to go.
func settleLocality(mc *meshconfig.MeshConfig) []string {
	const path = "localityLbSetting"
	var wrong problems
	validateLocalitySetting(&wrong, path, mc.LocalityLbSetting)
	if len(wrong) > 0 {
		mc.LocalityLbSetting = &networking.LocalityLoadBalancerSetting{Enabled: mc.LocalityLbSetting.Enabled}
		wrong.addf(path, "left out but for enabled, until this is corrected: near endpoints come first")
		return wrong
	}

	warnLocality(&wrong, path, mc.LocalityLbSetting)
	return wrong
}

// settleOutbound decides the mode of outboundTrafficPolicy. Without one it is
// ALLOW_ANY, as in Istio, although the zero value says otherwise. A mode, or a
// policy, that cannot be read closes: whoever wrote it wanted something else than
// the default, and what was shut must not open by a slip.
func settleOutbound(text string, mc *meshconfig.MeshConfig) []string {
	var given struct {
		Policy *json.RawMessage `json:"outboundTrafficPolicy"`
		Snake  *json.RawMessage `json:"outbound_traffic_policy"`
	}
	// The text was read before: it is a mapping.
	if err := yaml.Unmarshal([]byte(text), &given); err != nil {
		return nil
	}

	raw := given.Policy
	if raw == nil {
		raw = given.Snake
	}
	if raw == nil || string(*raw) == "null" {
		mc.OutboundTrafficPolicy = nil
		return nil
	}

	closed := &meshconfig.MeshConfig_OutboundTrafficPolicy{Mode: meshconfig.MeshConfig_OutboundTrafficPolicy_REGISTRY_ONLY}
	var fields map[string]json.RawMessage
	if json.Unmarshal(*raw, &fields) != nil {
		mc.OutboundTrafficPolicy = closed
		return []string{"outboundTrafficPolicy: cannot be read; REGISTRY_ONLY holds until it is corrected"}
	}

	if mc.OutboundTrafficPolicy == nil {
		mc.OutboundTrafficPolicy = &meshconfig.MeshConfig_OutboundTrafficPolicy{}
	}
	mode, ok := fields["mode"]
	if !ok || string(mode) == "null" {
		mc.OutboundTrafficPolicy.Mode = meshconfig.MeshConfig_OutboundTrafficPolicy_ALLOW_ANY
		return nil
	}

	one := &meshconfig.MeshConfig_OutboundTrafficPolicy{}
	if protojson.Unmarshal([]byte(`{"mode":`+string(mode)+`}`), one) != nil {
		mc.OutboundTrafficPolicy = closed
		return []string{"outboundTrafficPolicy.mode: REGISTRY_ONLY holds until it is corrected"}
	}
	mc.OutboundTrafficPolicy.Mode = one.Mode
	if one.Mode != meshconfig.MeshConfig_OutboundTrafficPolicy_ALLOW_ANY && one.Mode != meshconfig.MeshConfig_OutboundTrafficPolicy_REGISTRY_ONLY {
		return []string{"outboundTrafficPolicy.mode: " + one.Mode.String() + " is not honoured yet and counts as ALLOW_ANY"}
	}
	return nil
}

// loadLenient decodes each field of a mapping by itself, and, for the fields
// named, each of theirs.
func loadLenient(text string, into proto.Message, descend ...string) ([]string, error) {
	raw, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		return nil, err
	}
	return mergeFields(raw, into, "", descend)
}

func mergeFields(raw []byte, into proto.Message, path string, descend []string) ([]string, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, fmt.Errorf("want a mapping of fields: %w", err)
	}
	var warnings []string
	for _, name := range sortedMapKeys(fields) {
		if slices.Contains(descend, name) {
			fd := fieldByName(into.ProtoReflect().Descriptor(), name)
			if string(fields[name]) == "null" {
				continue
			}
			sub := into.ProtoReflect().Mutable(fd).Message().Interface()
			more, err := mergeFields(fields[name], sub, path+name+".", nil)
			warnings = append(warnings, more...)
			if err != nil {
				warnings = append(warnings, path+name+": left out: "+err.Error())
			}
			continue
		}
		one, err := json.Marshal(map[string]json.RawMessage{name: fields[name]})
		if err != nil {
			return nil, err
		}
		part := into.ProtoReflect().New().Interface()
		if err := protojson.Unmarshal(PlainDurations(one, part.ProtoReflect().Descriptor()), part); err != nil {
			warnings = append(warnings, path+name+": left out: "+shortError(err))
			continue
		}
		proto.Merge(into, part)
	}
	return warnings, nil
}

// shortError drops the position, which is that in a fragment the user never
// saw.
func shortError(err error) string {
	s := plainProtoError(err)
	if rest, ok := strings.CutPrefix(s, "(line "); ok {
		if _, after, ok := strings.Cut(rest, "): "); ok {
			return after
		}
	}
	return s
}
