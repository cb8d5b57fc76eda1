package render

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"sigs.k8s.io/yaml"
)

// release is one chart with its values, as Helm calls it.
type release struct {
	component string
	chart     string // directory in the charts' file system
	extra     string // a values file of the chart to lay over its values.yaml
	name      string
	namespace string
	values    map[string]any
}

// render returns the objects of one release.
func (r release) render(charts fs.FS) ([]Object, error) {
	fail := func(err error) ([]Object, error) {
		return nil, fmt.Errorf("chart %s for %s: %w", r.chart, r.name, err)
	}

	chart, err := loadChart(charts, r.chart)
	if err != nil {
		return fail(err)
	}

	values := r.values
	if r.extra != "" {
		data, err := fs.ReadFile(charts, path.Join(r.chart, r.extra))
		if err != nil {
			return fail(err)
		}
		base := map[string]any{}
		if err := yaml.Unmarshal(data, &base); err != nil {
			return fail(fmt.Errorf("%s: %w", r.extra, err))
		}
		values = loader.MergeMaps(base, values)
	}

	rel := common.ReleaseOptions{Name: r.name, Namespace: r.namespace, Revision: 1, IsInstall: true}
	full, err := util.ToRenderValues(chart, values, rel, nil)
	if err != nil {
		return fail(err)
	}

	files, err := engine.Render(chart, full)
	if err != nil {
		return fail(helmMessage(err))
	}

	var objs []Object
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, ".tpl") || strings.HasSuffix(name, "NOTES.txt") {
			continue
		}
		got, err := Decode([]byte(files[name]), r.component)
		if err != nil {
			return fail(fmt.Errorf("%s: %w", name, err))
		}
		objs = append(objs, got...)
	}

	for _, o := range objs {
		if o.GetNamespace() == "" && namespaced(o) {
			o.SetNamespace(r.namespace)
		}
	}
	return objs, nil
}

// namespaced reports whether an object of the charts lives in a namespace.
func namespaced(o Object) bool {
	switch o.GetKind() {
	case "Namespace", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding",
		"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration", "PriorityClass":
		return false
	}
	return true
}

// helmMessage takes the words of a chart's "fail" out of the engine's error.
func helmMessage(err error) error {
	const mark = "error calling fail: "
	if i := strings.LastIndex(err.Error(), mark); i >= 0 {
		return errors.New(err.Error()[i+len(mark):])
	}
	return err
}

// loadChart reads one chart out of a file system.
func loadChart(charts fs.FS, dir string) (*chart.Chart, error) {
	sub, err := fs.Sub(charts, dir)
	if err != nil {
		return nil, err
	}
	var files []*archive.BufferedFile
	err = fs.WalkDir(sub, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(sub, name)
		files = append(files, &archive.BufferedFile{Name: name, Data: data})
		return err
	})
	if err != nil {
		return nil, err
	}
	return loader.LoadFiles(files)
}
