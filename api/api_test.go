package api

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

func decodeYAML(t *testing.T, text string) (*Object, error) {
	t.Helper()
	return decodeText(text)
}

func decodeText(text string) (*Object, error) {
	raw, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		return nil, err
	}
	return Decode(raw)
}

const seedEntry = `
apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata: {name: httpbin-bar, namespace: foo}
spec:
  hosts: [httpbin.bar.global]
  location: MESH_INTERNAL
  ports:
  - {name: http1, number: 8000, protocol: http}
  resolution: DNS
  addresses: [240.0.0.2]
  endpoints:
  - address: 10.1.2.3
    ports: {http1: 15443}
`

func TestDecodeSeedServiceEntry(t *testing.T) {
	obj, err := decodeYAML(t, seedEntry)
	if err != nil {
		t.Fatal(err)
	}
	if obj.Kind != KindServiceEntry || obj.Namespace != "foo" || obj.Name != "httpbin-bar" {
		t.Fatalf("decoded as %s", obj)
	}
}

func TestDecodeRefuses(t *testing.T) {
	const se = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: x, namespace: ns}\nspec: "
	const dr = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: x, namespace: ns}\nspec: "
	const gw = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: x, namespace: ns}\nspec: "
	const pa = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: x, namespace: ns}\nspec: "
	for name, c := range map[string]struct{ object, want string }{
		"no hosts":           {se + `{ports: [{number: 80, name: http}]}`, "spec.hosts: is empty"},
		"port out of range":  {se + `{hosts: [a.b], ports: [{number: 70000, name: http}]}`, "spec.ports[0].number: 70000"},
		"unnamed port":       {se + `{hosts: [a.b], ports: [{number: 80}]}`, "spec.ports[0].name: is empty"},
		"protocol":           {se + `{hosts: [a.b], ports: [{number: 80, name: u, protocol: SCTP}]}`, "spec.ports[0].protocol"},
		"address":            {se + `{hosts: [a.b], addresses: [300.1.1.1], ports: [{number: 80, name: http}]}`, "spec.addresses[0]"},
		"none and endpoints": {se + `{hosts: [a.b], ports: [{number: 80, name: http}], endpoints: [{address: 1.1.1.1}]}`, "spec.endpoints: cannot stand"},
		"static and name":    {se + `{hosts: [a.b], resolution: STATIC, ports: [{number: 80, name: http}], endpoints: [{address: c.d}]}`, "spec.endpoints[0].address"},
		"dns wildcard":       {se + `{hosts: ["*.b"], resolution: DNS, ports: [{number: 80, name: http}]}`, "spec.hosts: a wildcard"},
		"endpoint port":      {se + `{hosts: [a.b], resolution: STATIC, ports: [{number: 80, name: http}], endpoints: [{address: 1.1.1.1, ports: {x: 1}}]}`, "spec.endpoints[0].ports[x]: names no port"},
		"selector":           {se + `{hosts: [a.b], ports: [{number: 80, name: http}], workloadSelector: {labels: {a: b}}}`, "spec.workloadSelector: is not honoured"},
		"round robin dns": {
			se + `{hosts: [a.b], resolution: DNS_ROUND_ROBIN, endpoints: [{address: c.d}, {address: e.f}], ports: [{number: 80, name: http}]}`,
			"spec.endpoints: 2 cannot stand with resolution DNS_ROUND_ROBIN",
		},
		"round robin wildcard": {se + `{hosts: ["*.b"], resolution: DNS_ROUND_ROBIN, ports: [{number: 80, name: http}]}`, "spec.hosts: a wildcard host cannot be resolved by DNS"},
		"unknown resolution":   {se + `{hosts: [a.b], resolution: DYNAMIC_DNS, ports: [{number: 80, name: http}]}`, "spec.resolution: DYNAMIC_DNS"},
		"unknown field":        {se + `{hosts: [a.b], porst: []}`, "porst"},
		"dr outlier, too short": {
			dr + `{host: a.b, trafficPolicy: {portLevelSettings: [{port: {number: 80}, outlierDetection: {interval: 0s}}]}}`,
			"spec.trafficPolicy.portLevelSettings[0].outlierDetection.interval: 0s is too short",
		},
		"dr outlier, no percentage": {
			dr + `{host: a.b, subsets: [{name: v1, trafficPolicy: {outlierDetection: {maxEjectionPercent: 101}}}]}`,
			"spec.subsets[0].trafficPolicy.outlierDetection.maxEjectionPercent: 101 is no percentage",
		},
		"dr lb":          {dr + `{host: a.b, trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}}`, "spec.trafficPolicy.loadBalancer.simple: PASSTHROUGH"},
		"dr port":        {dr + `{host: a.b, trafficPolicy: {portLevelSettings: [{tls: {mode: DISABLE}}]}}`, "spec.trafficPolicy.portLevelSettings[0].port: is missing"},
		"dr subset name": {dr + `{host: a.b, subsets: [{name: a_b}]}`, "spec.subsets[0].name"},
		"gateway mode":   {gw + `{selector: {a: b}, servers: [{port: {number: 443, name: tls, protocol: TLS}, tls: {mode: SIMPLE}, hosts: ["*"]}]}`, "spec.servers[0].tls.credentialName: is missing"},
		"pa port":        {pa + `{portLevelMtls: {8080: {mode: STRICT}}}`, "spec.portLevelMtls: needs spec.selector"},
		"pa mode":        {pa + `{mtls: {mode: SOMETIMES}}`, "SOMETIMES"},
		"workload entry": {"kind: WorkloadEntry\nmetadata: {name: x}\nspec: {}", "WorkloadEntry is not honoured yet"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decodeYAML(t, c.object)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestDecodeAccepts(t *testing.T) {
	for name, text := range map[string]string{
		"gateway to the control plane": "kind: Gateway\nmetadata: {name: x, namespace: istio-system}\nspec: {selector: {istio: eastwestgateway}, servers: [{port: {number: 15012, name: tls, protocol: TLS}, hosts: [istiod.istio-system.svc.cluster.local, istiod.istio-system.svc], tls: {mode: PASSTHROUGH}}]}",
		"passthrough gateway":          "kind: Gateway\nmetadata: {name: x, namespace: istio-system}\nspec: {selector: {istio: ingressgateway}, servers: [{port: {number: 15443, name: tls, protocol: TLS}, hosts: ['*.global'], tls: {mode: AUTO_PASSTHROUGH}}]}",
		"multicluster rule":            "kind: DestinationRule\nmetadata: {name: x, namespace: istio-system}\nspec: {host: '*.global', trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}",
		"strict mesh":                  "kind: PeerAuthentication\nmetadata: {name: default, namespace: istio-system}\nspec: {mtls: {mode: STRICT}}",
		"none":                         "kind: ServiceEntry\nmetadata: {name: x, namespace: ns}\nspec: {hosts: ['*.example.com'], ports: [{number: 443, name: tls, protocol: TLS}]}",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := decodeYAML(t, text); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestLoadMeshConfigKeepsGoodFields(t *testing.T) {
	mc, warnings, err := LoadMeshConfig(`
trustDomain: example.org
connectTimeout: never
accessLogFile: /dev/stdout
nonsense: 1
enableTracing: true
defaultConfig:
  concurrency: 3
  terminationDrainDuration: x
`)
	if err != nil {
		t.Fatal(err)
	}
	if mc.TrustDomain != "example.org" || mc.AccessLogFile != "/dev/stdout" || mc.DefaultConfig.Concurrency.GetValue() != 3 {
		t.Fatalf("good fields were dropped: %v", mc)
	}
	got := strings.Join(warnings, "\n")
	for _, want := range []string{"connectTimeout: left out", "nonsense: left out", "enableTracing: is not honoured", "defaultConfig.terminationDrainDuration: left out"} {
		if !strings.Contains(got, want) {
			t.Errorf("no warning %q in:\n%s", want, got)
		}
	}
	if len(warnings) != 4 {
		t.Errorf("%d warnings, want 4:\n%s", len(warnings), got)
	}
	if _, _, err := LoadMeshConfig("- a"); err == nil {
		t.Error("a list is no mesh configuration")
	}
}

func TestValidatorAnswers(t *testing.T) {
	raw, err := yaml.YAMLToJSON([]byte(seedEntry))
	if err != nil {
		t.Fatal(err)
	}
	bad := strings.Replace(string(raw), "8000", "80000", 1)
	for name, c := range map[string]struct {
		group, kind, op, object string
		allowed                 bool
	}{
		"good":            {GroupNetworking, "ServiceEntry", "CREATE", string(raw), true},
		"bad":             {GroupNetworking, "ServiceEntry", "UPDATE", bad, false},
		"bad, deleted":    {GroupNetworking, "ServiceEntry", "DELETE", bad, true},
		"not honoured":    {GroupNetworking, "WorkloadEntry", "CREATE", `{"kind":"WorkloadEntry"}`, false},
		"foreign gateway": {"gateway.networking.k8s.io", "Gateway", "CREATE", `{"kind":"Gateway"}`, true},
		"foreign kind":    {"apps", "Deployment", "CREATE", `{}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			body := `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u1","operation":"` + c.op +
				`","kind":{"group":"` + c.group + `","version":"v1","kind":"` + c.kind + `"},"object":` + c.object + `}}`
			rec := httptest.NewRecorder()
			NewValidator(ValidatorConfig{}).ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/validate", strings.NewReader(body)))
			var got struct {
				Kind     string
				Response struct {
					UID     string
					Allowed bool
				}
			}
			if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if got.Kind != "AdmissionReview" || got.Response.UID != "u1" || got.Response.Allowed != c.allowed {
				t.Fatalf("answer %s", rec.Body)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	raw, err := yaml.YAMLToJSON([]byte(seedEntry))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"kind":"DestinationRule","spec":{"host":"a.b","subsets":[{"name":"v1","labels":{"a":"b"}}]}}`))
	f.Add([]byte(`{"kind":"Gateway","spec":{"servers":[{"port":null,"hosts":["a/b"]}]}}`))
	f.Add([]byte(`{"kind":"PeerAuthentication","spec":{"portLevelMtls":{"1":{"mode":"STRICT"}}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		obj, err := Decode(raw)
		if err == nil && obj.Spec == nil {
			t.Fatal("neither an error nor a spec")
		}
	})
}

func FuzzLoadMeshConfig(f *testing.F) {
	f.Add("trustDomain: a\ndefaultConfig: {concurrency: 1}")
	f.Add("defaultConfig: []")
	f.Fuzz(func(t *testing.T, text string) {
		if mc, _, err := LoadMeshConfig(text); err == nil && mc == nil {
			t.Fatal("neither an error nor a configuration")
		}
	})
}

func FuzzAdmission(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","operation":"CREATE","kind":{"kind":"ServiceEntry","group":"networking.istio.io"},"object":{}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		v := &validator{cfg: ValidatorConfig{Logger: quiet(), Observe: func(string, bool) {}}}
		if out, err := Review(body, v.admit); err == nil && len(out) == 0 {
			t.Fatal("neither an error nor an answer")
		}
	})
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
