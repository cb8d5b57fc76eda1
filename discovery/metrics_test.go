package discovery

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// TestNotInForceIsMeasured: one gauge for each kind that has such objects.
func TestNotInForceIsMeasured(t *testing.T) {
	wrong := func() map[schema.GroupKind]int {
		return map[schema.GroupKind]int{{Group: "networking.istio.io", Kind: "Gateway"}: 2}
	}
	notHonoured := func() map[schema.GroupKind]int {
		return map[schema.GroupKind]int{
			{Group: "gateway.networking.k8s.io", Kind: "Gateway"}: 3,
			{Group: "extensions.istio.io", Kind: "WasmPlugin"}:    1,
		}
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(notInForce{wrong, notHonoured})
	answer := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	const want = `# TYPE isthmus_config_objects_not_in_force gauge
isthmus_config_objects_not_in_force{group="extensions.istio.io",kind="WasmPlugin"} 1
isthmus_config_objects_not_in_force{group="gateway.networking.k8s.io",kind="Gateway"} 3
isthmus_config_objects_not_in_force{group="networking.istio.io",kind="Gateway"} 2
`
	if _, got, _ := strings.Cut(answer.Body.String(), "in part: kinds that are not honoured, and objects that are wrong.\n"); got != want {
		t.Errorf("measured\n%s\nwant\n%s", answer.Body, want)
	}
}
