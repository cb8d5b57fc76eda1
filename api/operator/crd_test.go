package operator

import (
	"encoding/json"
	"testing"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// TestCRD: the API server would take the schema, and judges by it.
func TestCRD(t *testing.T) {
	raw, err := json.Marshal(CRD())
	if err != nil {
		t.Fatal(err)
	}
	if len(raw) > 400<<10 {
		t.Errorf("the CRD takes %d bytes", len(raw))
	}
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := json.Unmarshal(raw, crd); err != nil {
		t.Fatal(err)
	}
	props := &apiextensions.JSONSchemaProps{}
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(crd.Spec.Versions[0].Schema.OpenAPIV3Schema, props, nil); err != nil {
		t.Fatal(err)
	}
	structural, err := schema.NewStructural(props)
	if err != nil {
		t.Fatal(err)
	}
	if errs := schema.ValidateStructural(nil, structural); len(errs) > 0 {
		t.Fatalf("not structural: %v", errs)
	}
	validator, _, err := validation.NewSchemaValidator(props)
	if err != nil {
		t.Fatal(err)
	}
	for in, ok := range map[string]bool{
		"spec: {profile: demo, components: {ingressGateways: [{name: a, enabled: true}]}}": true,
		"spec: {components: {pilot: {k8s: {replicaCount: two}}}}":                          false,
		"spec: {components: {pilot: {enabled: 1}}}":                                        false,
		"spec: {values: {global: {jwtPolicy: none}}}":                                      false,
		"spec: {profil: demo}":                                                             true,
	} {
		var doc map[string]any
		if err := yaml.Unmarshal([]byte(in), &doc); err != nil {
			t.Fatal(err)
		}
		if errs := validation.ValidateCustomResource(nil, doc, validator); (len(errs) == 0) != ok {
			t.Errorf("%s: %v", in, errs)
		}
	}
}
