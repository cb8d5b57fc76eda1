package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/install/render"
)

// TestEastWestGateway: what the script prints installs one gateway, in the network
// that it names, with the ports by which other networks come in.
func TestEastWestGateway(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Fatal("the samples are shell scripts: bash is needed, as for make")
	}
	script := filepath.Join("..", "..", "samples", "multicluster", "gen-eastwest-gateway.sh")
	for _, tc := range []struct {
		args string
		want []string // in what is rendered
		lack string
	}{
		{"--network network1", []string{"topology.istio.io/network: network1", "port: 15012", "port: 15443", "istio: eastwestgateway", "name: ISTIO_META_REQUESTED_NETWORK_VIEW", "istiod.istio-system.svc:15012"}, "name: istio-ingressgateway"},
		{"--network 1 --mesh true --cluster c --revision r1", []string{`topology.istio.io/network: "1"`, `value: "true"`, "istiod-r1.istio-system.svc:15012"}, "name: istiod\n"},
		{"--single-cluster", []string{"port: 15012"}, "topology.istio.io/network"},
	} {
		document, err := exec.Command("bash", append([]string{script}, strings.Fields(tc.args)...)...).Output()
		if err != nil {
			t.Fatalf("%s: %v", tc.args, err)
		}
		c := &configFlags{inputs: []input{{"the script", document}}}
		config, objs, err := c.objects(nil)
		if err != nil {
			t.Fatalf("%s: %v\n%s", tc.args, err, document)
		}
		if config.Addition != "eastwest" || len(config.Warnings) > 0 {
			t.Errorf("%s: it is the addition %q, warnings %q", tc.args, config.Addition, config.Warnings)
		}
		text, err := render.YAML(objs)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range tc.want {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s: no %q in\n%s", tc.args, want, text)
			}
		}
		if strings.Contains(string(text), tc.lack) {
			t.Errorf("%s: there is %q in\n%s", tc.args, tc.lack, text)
		}
	}

	for args, want := range map[string]string{
		"":                "--network is missing",
		"--network":       "--network has no value",
		"--netwrok n":     "--netwrok is unknown",
		"--network n x y": "x is unknown",
	} {
		cmd := exec.Command("bash", append([]string{script}, strings.Fields(args)...)...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if out, err := cmd.Output(); err == nil || len(out) > 0 || !strings.Contains(stderr.String(), want) {
			t.Errorf("%q: %v, printed %q and %q, want %q", args, err, out, stderr.String(), want)
		}
	}
}

// TestMulticlusterSamples: the manifests are in force as they stand.
func TestMulticlusterSamples(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "samples", "multicluster", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		objs, err := render.Decode(text, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objs {
			raw, err := o.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			obj, err := api.Decode(raw)
			if err == nil {
				err = api.Validate(obj)
			}
			if err != nil {
				t.Errorf("%s: %s: %v", file, o.ID(), err)
			}
		}
	}
}
