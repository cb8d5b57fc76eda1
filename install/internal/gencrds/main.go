// Command gencrds writes the CRDs that are installed into the directory that it is
// given: those of the Istio APIs, as the module istio.io/api of this build carries
// them, and those of the Multi-Cluster Services API, of sigs.k8s.io/mcs-api. A CRD
// is one JSON document (which is YAML too, and is read much faster), with what is of
// no use to a cluster taken out.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/mcs-api/config/crd"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gencrds DIRECTORY")
		os.Exit(2)
	}
	if err := generate(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "gencrds:", err)
		os.Exit(1)
	}
}

func generate(dir string) error {
	module, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "istio.io/api").Output()
	if err != nil {
		return fmt.Errorf("find module istio.io/api: %w", err)
	}
	istio, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(module)), "kubernetes", "customresourcedefinitions.gen.yaml"))
	if err != nil {
		return err
	}
	if err := write(filepath.Join(dir, "crds.gen.yaml"), istio); err != nil {
		return fmt.Errorf("module istio.io/api: %w", err)
	}

	err = write(filepath.Join(dir, "mcs-crds.gen.yaml"), crd.ServiceExportCRD, crd.ServiceImportCRD)
	if err != nil {
		return fmt.Errorf("module sigs.k8s.io/mcs-api: %w", err)
	}
	return nil
}

// write writes the CRDs of some YAML files into one.
func write(file string, sources ...[]byte) error {
	var out bytes.Buffer
	for _, src := range sources {
		dec := yaml.NewDecoder(bytes.NewReader(src))
		for {
			var crd map[string]any
			err := dec.Decode(&crd)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return fmt.Errorf("read the CRDs: %w", err)
			}
			if len(crd) == 0 {
				continue
			}

			tidy(crd)
			line, err := json.Marshal(crd)
			if err != nil {
				return fmt.Errorf("encode %v: %w", crd["metadata"], err)
			}
			out.WriteString("---\n")
			out.Write(line)
			out.WriteByte('\n')
		}
	}

	if out.Len() == 0 {
		return errors.New("no CRD found")
	}
	if old, err := os.ReadFile(file); err == nil && bytes.Equal(old, out.Bytes()) {
		return nil // keep the time stamp, and with it the build cache
	}
	return os.WriteFile(file, out.Bytes(), 0o644)
}

// tidy removes labels that name the tool of another installation.
func tidy(crd map[string]any) {
	meta, _ := crd["metadata"].(map[string]any)
	labels, _ := meta["labels"].(map[string]any)
	for _, k := range []string{"chart", "heritage", "release"} {
		delete(labels, k)
	}
}
