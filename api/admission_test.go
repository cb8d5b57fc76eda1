package api

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	"sigs.k8s.io/yaml"
)

// review asks a validator about an object.
func review(t *testing.T, cfg ValidatorConfig, object string) *admissionv1.AdmissionResponse {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(object))
	if err != nil {
		t.Fatal(err)
	}
	var head struct{ Kind string }
	if err := json.Unmarshal(raw, &head); err != nil {
		t.Fatal(err)
	}
	body := `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u1","operation":"CREATE","namespace":"tenant",` +
		`"kind":{"group":"networking.istio.io","version":"v1","kind":"` + head.Kind + `"},"object":` + string(raw) + `}}`
	rec := httptest.NewRecorder()
	NewValidator(cfg).ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/validate", strings.NewReader(body)))
	var got admissionv1.AdmissionReview
	if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
		t.Fatalf("%v: %s", err, rec.Body)
	}
	return got.Response
}

// TestValidatorWarns: what is valid and without effect is admitted and told.
func TestValidatorWarns(t *testing.T) {
	got := review(t, ValidatorConfig{Logger: quiet()}, document("DestinationRule", `{host: web, trafficPolicy: {tls: {mode: DISABLE, sni: a.b}}}`))
	if !got.Allowed || len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "spec.trafficPolicy.tls.sni") {
		t.Errorf("%+v", got)
	}
}

// TestValidatorChecksTheCluster: the rest of the cluster has a say.
func TestValidatorChecksTheCluster(t *testing.T) {
	cfg := ValidatorConfig{Logger: quiet(), Check: func(o *Object) ([]string, error) {
		if o.Namespace != "tenant" {
			t.Errorf("namespace %q", o.Namespace)
		}
		return nil, errors.New("taken")
	}}
	got := review(t, cfg, strings.Replace(document("DestinationRule", `{host: web}`), "namespace: tenant, ", "", 1))
	if got.Allowed || got.Result.Message != "taken" {
		t.Errorf("%+v", got)
	}
}

// TestValidatorAlwaysRejects: by this annotation one finds out whether
// validation stands.
func TestValidatorAlwaysRejects(t *testing.T) {
	object := strings.Replace(document("ServiceEntry", `{hosts: [a.b], ports: [{number: 80, name: http}]}`),
		"name: x", `name: x, annotations: {internal.istio.io/webhook-always-reject: "true"}`, 1)
	if got := review(t, ValidatorConfig{Logger: quiet()}, object); got.Allowed || !strings.Contains(got.Result.Message, "webhook-always-reject") {
		t.Errorf("%+v", got)
	}
}

// TestValidatorBoundsWhatStrangersLeave: whoever reaches the webhook may name any
// kind; none becomes a time series, and no log line has no end.
func TestValidatorBoundsWhatStrangersLeave(t *testing.T) {
	var log strings.Builder
	seen := map[string]bool{}
	cfg := ValidatorConfig{
		Logger:  slog.New(slog.NewTextHandler(&log, nil)),
		Observe: func(kind string, _ bool) { seen[kind] = true },
	}
	for _, kind := range []string{"MadeUp1", "MadeUp2", strings.Repeat("x", 100_000), "DestinationRule"} {
		body := `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u1","operation":"CREATE",` +
			`"namespace":"` + strings.Repeat("n", 100_000) + `","name":"` + strings.Repeat("m", 100_000) + `",` +
			`"kind":{"group":"networking.istio.io","version":"v1","kind":"` + kind + `"},` +
			`"object":{"metadata":{"annotations":{"` + annotationAlwaysReject + `":"true"}}}}}`
		rec := httptest.NewRecorder()
		NewValidator(cfg).ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/validate", strings.NewReader(body)))
	}
	if len(seen) != 2 || !seen["other"] || !seen["DestinationRule"] {
		t.Errorf("%d kinds are counted, want other and DestinationRule", len(seen))
	}
	for line := range strings.Lines(log.String()) {
		if len(line) > 10_000 {
			t.Errorf("a log line of %d bytes", len(line))
		}
	}
}
