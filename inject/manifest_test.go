package inject

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"
)

func TestManifest(t *testing.T) {
	const service = "# kept as it is\napiVersion: v1\nkind: Service\nmetadata: {name: web}   # also this\n"
	const deployment = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  futureField: 1
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: w, futureField: true}]}
`
	const optedOut = "kind: Pod\napiVersion: v1\nmetadata: {name: out, annotations: {sidecar.istio.io/inject: \"false\"}}\nspec: {containers: [{name: a}]}\n"
	var out bytes.Buffer
	outcomes, err := Manifest(strings.NewReader(service+"---\n"+deployment+"---\n"+optedOut), &out, "default", settings(t))
	if err != nil {
		t.Fatal(err)
	}
	docs := strings.Split(out.String(), "---\n")
	if len(docs) != 3 || docs[0] != service || docs[2] != optedOut {
		t.Fatalf("what is not injected was changed:\n%s", out.String())
	}
	if strings.Count(docs[1], "futureField") != 2 {
		t.Error("fields that this program does not know were lost")
	}
	var d appsv1.Deployment
	if err := yaml.Unmarshal([]byte(docs[1]), &d); err != nil {
		t.Fatal(err)
	}
	pod := podOf(t, "{}")
	pod.Spec = d.Spec.Template.Spec
	env := envOf(container(t, pod, ProxyContainer))
	if env["ISTIO_META_OWNER"] != "kubernetes://apis/apps/v1/namespaces/shop/deployments/web" {
		t.Errorf("owner %s", env["ISTIO_META_OWNER"])
	}
	if *d.Spec.Replicas != 3 {
		t.Error("replicas were changed")
	}
	var said []string
	for _, o := range outcomes {
		said = append(said, o.Kind+"/"+o.Namespace+"/"+o.Name+": "+map[bool]string{true: "injected", false: "skipped"}[o.Injected])
	}
	if d := cmp.Diff([]string{"Deployment/shop/web: injected", "Pod/default/out: skipped"}, said); d != "" {
		t.Error(d)
	}
	var again bytes.Buffer
	if _, err := Manifest(bytes.NewReader(out.Bytes()), &again, "default", settings(t)); err != nil || again.String() != out.String() {
		t.Errorf("a second injection changed the manifest: %v", err)
	}
}

func TestManifestRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"yaml":     {"kind: [", "document 1"},
		"template": {"kind: Deployment\nmetadata: {name: d}", "Deployment d: it has no spec"},
		"annotation": {
			text: "kind: List\nitems: [{kind: Pod, metadata: {name: p, annotations: {sidecar.istio.io/proxyCPU: x}}, spec: {containers: [{name: a}]}}]",
			want: "items[0]: Pod p: annotation sidecar.istio.io/proxyCPU",
		},
		"second file": {"kind: Service\n---\nkind: Pod\nspec: {containers: 1}", "document 2"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			_, err := Manifest(strings.NewReader(c.text), &out, "default", settings(t))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if out.Len() > 0 {
				t.Error("half a manifest was written")
			}
		})
	}
}
