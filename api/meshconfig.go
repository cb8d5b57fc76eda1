package api

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	meshconfig "istio.io/api/mesh/v1alpha1"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"sigs.k8s.io/yaml"
)

// honouredMeshFields are the fields of MeshConfig that change something.
// Others are taken and warned of.
var honouredMeshFields = []string{
	"accessLogEncoding", "accessLogFile", "accessLogFormat", "connectTimeout", "defaultConfig",
	"enableAutoMtls", "localityLbSetting", "outboundTrafficPolicy", "rootNamespace", "trustDomain",
	// Harmless because what they ask for is so anyway.
	"enablePrometheusMerge", "ingressControllerMode",
}

// LoadMeshConfig reads a MeshConfig in YAML or JSON. A field that does not
// decode is left out and named in the warnings, as are fields that are unknown
// or not honoured: one bad field never drops the others. An error means that
// the text is no YAML mapping at all.
func LoadMeshConfig(text string) (*meshconfig.MeshConfig, []string, error) {
	mc := &meshconfig.MeshConfig{}
	warnings, err := loadLenient(text, mc, "defaultConfig")
	if err != nil {
		return nil, nil, fmt.Errorf("mesh configuration: %w", err)
	}
	mc.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if !slices.Contains(honouredMeshFields, fd.JSONName()) {
			warnings = append(warnings, fd.JSONName()+": is not honoured yet and changes nothing")
		}
		return true
	})
	slices.Sort(warnings)
	return mc, warnings, nil
}

// LoadMeshNetworks reads a MeshNetworks in YAML or JSON, as leniently as
// LoadMeshConfig.
func LoadMeshNetworks(text string) (*meshconfig.MeshNetworks, []string, error) {
	nets := &meshconfig.MeshNetworks{}
	warnings, err := loadLenient(text, nets)
	if err != nil {
		return nil, nil, fmt.Errorf("mesh networks: %w", err)
	}
	slices.Sort(warnings)
	return nets, warnings, nil
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
			fd := into.ProtoReflect().Descriptor().Fields().ByJSONName(name)
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
		if err := protojson.Unmarshal(plainDurations(one, part.ProtoReflect().Descriptor()), part); err != nil {
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
