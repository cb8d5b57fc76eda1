package operator

// CRD returns the CustomResourceDefinition of the kind, its schema derived from
// the Go types. The API server refuses values of the wrong type by it; unknown
// keys it lets through, for the operator to name in the status with the nearest
// right one, where the API server would drop them without a word.
func CRD() map[string]any {
	status := map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}
	return map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1",
		"kind":       "CustomResourceDefinition",
		"metadata":   map[string]any{"name": "istiooperators." + Group},
		"spec": map[string]any{
			"group": Group,
			"scope": "Namespaced",
			"names": map[string]any{
				"kind": Kind, "listKind": Kind + "List", "plural": "istiooperators", "singular": "istiooperator",
				"shortNames": []any{"iop", "io"},
			},
			"versions": []any{map[string]any{
				"name": "v1alpha1", "served": true, "storage": true,
				"subresources": map[string]any{"status": map[string]any{}},
				"additionalPrinterColumns": []any{
					column("Revision", "string", ".spec.revision"),
					column("Status", "string", ".status.status"),
					column("Message", "string", ".status.message"),
					column("Age", "date", ".metadata.creationTimestamp"),
				},
				"schema": map[string]any{"openAPIV3Schema": map[string]any{
					"type":       "object",
					"properties": map[string]any{"spec": specShape().schema(maxDepth), "status": status},
				}},
			}},
		},
	}
}

func column(name, kind, path string) map[string]any {
	return map[string]any{"name": name, "type": kind, "jsonPath": path}
}

// maxDepth is how deep the schema goes; what is below is checked by the loader
// alone. It keeps the CRD far below what etcd takes.
const maxDepth = 6

// schema returns the OpenAPI schema of a shape, depth levels deep.
func (s shape) schema(depth int) map[string]any {
	switch s.kind {
	case structKind:
		out := map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}
		if depth > 0 {
			properties := map[string]any{}
			for _, f := range s.fields() {
				properties[f.name] = f.shape.schema(depth - 1)
			}
			out["properties"] = properties
		}
		return out
	case mapKind:
		if depth == 0 {
			return map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}
		}
		return map[string]any{"type": "object", "additionalProperties": s.elem().schema(depth - 1)}
	case listKind:
		items := map[string]any{"x-kubernetes-preserve-unknown-fields": true}
		if depth > 0 {
			items = s.elem().schema(depth - 1)
		}
		return map[string]any{"type": "array", "items": items}
	case boolKind:
		return map[string]any{"type": "boolean"}
	case intKind:
		return map[string]any{"type": "integer", "format": "int64"}
	case floatKind:
		return map[string]any{"type": "number"}
	case quantityKind, intOrStringKind:
		return map[string]any{"x-kubernetes-int-or-string": true}
	case anyKind:
		return map[string]any{"x-kubernetes-preserve-unknown-fields": true}
	default:
		out := map[string]any{"type": "string"}
		if len(s.oneof) > 0 {
			var values []any
			for _, v := range s.oneof {
				values = append(values, v)
			}
			out["enum"] = values
		}
		return out
	}
}
