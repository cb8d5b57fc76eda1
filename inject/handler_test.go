package inject

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/isthmus-mesh/isthmus/api"
)

func reviewOf(t testing.TB, pod string) []byte {
	t.Helper()
	raw, err := json.Marshal(podOf(t, pod))
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "u1", Namespace: "bar", Operation: admissionv1.Create,
			Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}, Object: runtime.RawExtension{Raw: raw},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func newTestHandler(t testing.TB, src Source, ns map[string]string) (*handler, *bytes.Buffer) {
	t.Helper()
	log := &bytes.Buffer{}
	return NewHandler(Config{
		Source:          src,
		NamespaceLabels: func(string) (map[string]string, bool) { return ns, ns != nil },
		Logger:          slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Registerer:      prometheus.NewRegistry(),
	}).(*handler), log
}

func post(t *testing.T, h http.Handler, body []byte) (*admissionv1.AdmissionResponse, int, string) {
	t.Helper()
	srv := httptest.NewServer(h)
	defer srv.Close()
	resp, err := srv.Client().Post(srv.URL+"/inject", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var out admissionv1.AdmissionReview
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(text, &out); err != nil {
			t.Fatal(err)
		}
		if out.APIVersion != "admission.k8s.io/v1" || out.Kind != "AdmissionReview" {
			t.Errorf("answered with %s %s", out.APIVersion, out.Kind)
		}
	}
	return out.Response, resp.StatusCode, string(text)
}

func live(s *Settings) *Live {
	l := &Live{}
	if s != nil {
		l.Set(s)
	}
	return l
}

func TestHandler(t *testing.T) {
	enabled := map[string]string{api.LabelInjection: "enabled"}
	for name, c := range map[string]struct {
		pod        string
		source     Source
		namespace  map[string]string
		allowed    bool
		patched    bool
		message    string // in a refusal
		log        string
		counter    func(*handler) prometheus.Counter
		annotation string
	}{
		"injects": {pod: httpbin, source: live(settings(t)), namespace: enabled, allowed: true, patched: true,
			log: "pod injected", counter: func(h *handler) prometheus.Counter { return h.counters.success }},
		"leaves alone": {pod: httpbin, source: live(settings(t)), namespace: map[string]string{}, allowed: true,
			log: "neither the pod nor its namespace", counter: func(h *handler) prometheus.Counter { return h.counters.skip }},
		"says why it cannot": {pod: "spec: {hostNetwork: true}", source: live(settings(t)), namespace: enabled, allowed: true, patched: true,
			log: "host's network", annotation: SkippedAnnotation, counter: func(h *handler) prometheus.Counter { return h.counters.skip }},
		"refuses a bad annotation": {pod: "metadata: {annotations: {sidecar.istio.io/proxyCPU: x}}\nspec: {containers: [{name: a}]}",
			source: live(settings(t)), namespace: enabled, message: "annotation sidecar.istio.io/proxyCPU", log: "pod refused",
			counter: func(h *handler) prometheus.Counter { return h.counters.failure }},
		"refuses without settings": {pod: httpbin, source: live(nil), namespace: enabled, message: "istio-sidecar-injector",
			log: "pod refused", counter: func(h *handler) prometheus.Counter { return h.counters.failure }},
	} {
		t.Run(name, func(t *testing.T) {
			h, log := newTestHandler(t, c.source, c.namespace)
			resp, code, text := post(t, h, reviewOf(t, c.pod))
			if code != http.StatusOK || resp == nil || resp.UID != "u1" || resp.Allowed != c.allowed || (resp.Patch != nil) != c.patched {
				t.Fatalf("answer %d %s", code, text)
			}
			if c.message != "" && (resp.Result == nil || !strings.Contains(resp.Result.Message, c.message)) {
				t.Errorf("refusal %v, want one with %q", resp.Result, c.message)
			}
			if !strings.Contains(log.String(), c.log) {
				t.Errorf("log %q lacks %q", log.String(), c.log)
			}
			var m dto.Metric
			if err := c.counter(h).Write(&m); err != nil || m.Counter.GetValue() != 1 {
				t.Errorf("counter is %v, %v", &m, err)
			}
			if c.annotation != "" && apply(t, podOf(t, c.pod), resp.Patch).Annotations[c.annotation] == "" {
				t.Errorf("the pod does not carry %s", c.annotation)
			}
		})
	}
}

func TestHandlerRejects(t *testing.T) {
	h, _ := newTestHandler(t, live(settings(t)), nil)
	for name, body := range map[string]string{
		"no json":    "pod",
		"version":    `{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{"uid":"u"}}`,
		"no request": `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`,
	} {
		if _, code, text := post(t, h, []byte(body)); code != http.StatusBadRequest {
			t.Errorf("%s: answered %d %s", name, code, text)
		}
	}
	body := `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","operation":"CREATE","kind":{"kind":"Service"}}}`
	if resp, _, text := post(t, h, []byte(body)); resp == nil || resp.Allowed {
		t.Errorf("another kind: %s", text)
	}
}

// FuzzReview feeds the webhook what a broken or hostile client could: it must
// answer or refuse, and every patch must apply to the pod that it was made for.
func FuzzReview(f *testing.F) {
	// Short seeds: the engine spends its time on making long ones shorter.
	for _, pod := range []string{
		`{"spec":{"containers":[{"name":"a"}]}}`,
		`{"spec":{"hostNetwork":true}}`,
		`{"metadata":{"labels":{"app":"a"},"annotations":{"proxy.istio.io/config":"concurrency: 1"}},"spec":{"initContainers":[{"name":"i"}],"volumes":[{"name":"v"}],"containers":[{"name":"a"}]}}`,
		`{"metadata":{"annotations":{"sidecar.istio.io/proxyCPU":"1"}},"spec":{"containers":[{"livenessProbe":{"httpGet":{"port":"x"}},"readinessProbe":{"grpc":{"port":1}}}],"dnsConfig":{"searches":["s"]}}}`,
	} {
		f.Add([]byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","operation":"CREATE","namespace":"n","kind":{"kind":"Pod"},"object":` + pod + `}}`))
	}
	h, _ := newTestHandler(f, live(settings(f)), map[string]string{api.LabelInjection: "enabled"})
	h.log = slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, body []byte) {
		out, err := api.Review(body, h.admit)
		if err != nil {
			return
		}
		var in, answer admissionv1.AdmissionReview
		if err := json.Unmarshal(out, &answer); err != nil {
			t.Fatalf("the answer does not decode: %v", err)
		}
		if answer.Response.Patch == nil {
			return
		}
		if err := json.Unmarshal(body, &in); err != nil {
			t.Fatal(err)
		}
		// The API server hands over pods in canonical form.
		var pod corev1.Pod
		if err := json.Unmarshal(in.Request.Object.Raw, &pod); err != nil {
			t.Fatal(err)
		}
		apply(t, &pod, answer.Response.Patch)
	})
}
