// Command verdicts asks Istio's own validator about configuration objects: it reads them
// as JSON, one a line, and writes for each "verdict:", with what Istio has against it
// behind; nothing is a yes. What is asked is what the webhook of Istio asks, and that no
// field is unknown, as kubectl does. Istio's packages may write lines of their own between.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pkg/config"
	"istio.io/istio/pkg/config/schema/collections"
	"istio.io/istio/pkg/config/schema/resource"
)

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		said := ""
		if err := verdict(in.Bytes()); err != nil {
			said = strings.Join(strings.Fields(err.Error()), " ")
		}
		fmt.Println("verdict:" + said)
	}
	if err := in.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "verdicts:", err)
		os.Exit(1)
	}
}

// verdict is what Istio has against an object; nil: nothing.
func verdict(raw []byte) error {
	var obj crd.IstioKind
	if err := json.Unmarshal(raw, &obj); err != nil {
		return err
	}
	gvk := obj.GroupVersionKind()
	schema, known := collections.PilotGatewayAPI().FindByGroupVersionAliasesKind(resource.FromKubernetesGVK(&gvk))
	if !known {
		return fmt.Errorf("there is no %s in Istio", gvk)
	}
	cfg, err := crd.ConvertObjectInternal(schema, &obj, "cluster.local", strict)
	if err != nil {
		return err
	}
	_, err = schema.ValidateConfig(*cfg)
	return err
}

// strict reads a spec, and refuses fields that there are not.
func strict(schema resource.Schema, text string) (config.Spec, error) {
	spec, err := schema.NewInstance()
	if err != nil {
		return nil, err
	}
	return spec, config.ApplyJSONStrict(spec, text)
}
