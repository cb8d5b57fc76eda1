package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/isthmus-mesh/isthmus/proxy"
	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// localityPage is what a proxy shows of web.shop, and of other things.
func localityPage(now time.Time) []proxy.ClusterState {
	endpoint := func(address string, cluster string, change func(*proxy.EndpointState)) proxy.EndpointState {
		e := proxy.EndpointState{
			Address: netip.MustParseAddrPort(address), Workload: config.Workload{Name: "web-1", Cluster: cluster},
			Region: "r1", Zone: "z1", Weight: 1,
		}
		change(&e)
		return e
	}
	return []proxy.ClusterState{
		{Name: "outbound|443||web.shop.svc.cluster.local"},
		{Name: "outbound|80||web.shop.svc.cluster.local", Endpoints: []proxy.EndpointState{
			endpoint("10.1.0.1:8080", "c1", func(e *proxy.EndpointState) {
				e.Ejected, e.EjectedUntil = true, now.Add(12*time.Second)
			}),
			endpoint("10.1.0.2:8080", "c1", func(e *proxy.EndpointState) { e.Zone, e.Share, e.Active = "z2", 0.7, 3 }),
			endpoint("10.1.0.3:8080", "c1", func(e *proxy.EndpointState) { e.Zone, e.Unhealthy, e.Share = "z2", true, 0.1 }),
			endpoint("10.1.0.4:8080", "c1", func(e *proxy.EndpointState) { e.Zone, e.Doubted = "z2", true }),
			endpoint("192.0.2.1:15443", "c2", func(e *proxy.EndpointState) {
				e.Workload.Name, e.Region, e.Gateway, e.Network, e.Priority, e.Weight, e.Share = "", "r2", true, "net2", 1, 4, 0.2
			}),
		}},
		{Name: "outbound|80|v2|web.shop.svc.cluster.local"},
		{Name: "outbound|80||web.other.svc.cluster.local"},
		{Name: "outbound|80||web.shop.global"},
		{Name: "inbound|8080||"},
	}
}

// TestLocality: what a proxy writes is what the command reads and prints.
func TestLocality(t *testing.T) {
	now := time.Now()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/clusters" {
			http.Error(w, "no such page", http.StatusNotFound)
			return
		}
		_ = json.NewEncoder(w).Encode(localityPage(now)) // the client's error tells
	}))
	defer srv.Close()
	seen, err := fetchClusters(t.Context(), strings.TrimPrefix(srv.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}

	from := clientPosition{Pod: "sleep-1", Namespace: "shop", Cluster: "c1", Region: "r1", Zone: "z1"}
	ports := portsOf(seen, "web", from)
	ports[0].SetBy = []string{"mesh configuration: localityLbSetting"}
	var out strings.Builder
	if err := printLocality(&out, ports, now); err != nil {
		t.Fatal(err)
	}
	const want = `Seen by sleep-1 in namespace shop, cluster c1, r1/z1

web.shop.svc.cluster.local, port 80
PRIORITY SHARE ENDPOINT WORKLOAD CLUSTER NETWORK LOCALITY WEIGHT ACTIVE HEALTH WHERE
0 0% 10.1.0.1:8080 web-1 c1 - r1/z1 1 0 ejected for 12s same place
0 70% 10.1.0.2:8080 web-1 c1 - r1/z2 1 3 healthy same region
0 10% 10.1.0.3:8080 web-1 c1 - r1/z2 1 0 unhealthy, yet used same region
0 0% 10.1.0.4:8080 web-1 c1 - r1/z2 1 0 suspect same region
1 20% 192.0.2.1:15443 (gateway) c2 net2 r2/z1 4 0 healthy another region, another cluster, through a gateway
set by mesh configuration: localityLbSetting

web.shop.svc.cluster.local, port 80, subset v2
it has no endpoints

web.shop.svc.cluster.local, port 443
it has no endpoints
`
	if got := squeeze(out.String()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	text, err := json.Marshal(ports[0].Endpoints[4])
	if err != nil {
		t.Fatal(err)
	}
	const fields = `{"priority":1,"share":0.2,"address":"192.0.2.1:15443","cluster":"c2","region":"r2","zone":"z1","gateway":true,"network":"net2",` +
		`"weight":4,"health":"healthy","active":0,"place":"another region, another cluster, through a gateway"}`
	if string(text) != fields {
		t.Errorf("as JSON it is\n%s\nwant\n%s", text, fields)
	}
}

// squeeze makes one blank of each row of them.
func squeeze(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		out.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
	}
	return out.String()
}

// TestLocalityNames: what people call a service.
func TestLocalityNames(t *testing.T) {
	for name, want := range map[string]int{
		"web": 3, "web.shop": 3, "web.shop.svc.cluster.local": 3, "web.other": 1, "web.shop.global": 1, "we": 0, "web.sho": 0, "": 0,
	} {
		var page []clusterOfProxy
		for _, c := range localityPage(time.Now()) {
			page = append(page, clusterOfProxy{Name: c.Name})
		}
		if got := len(portsOf(page, name, clientPosition{Namespace: "shop"})); got != want {
			t.Errorf("%q means %d ports, want %d", name, got, want)
		}
	}
}

// TestPositionOf: a pod stands where its node does.
func TestPositionOf(t *testing.T) {
	pod := func(name, node string, containers ...corev1.Container) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: corev1.PodSpec{NodeName: node, InitContainers: containers}}
	}
	proxied := corev1.Container{Name: "istio-proxy", Env: []corev1.EnvVar{{Name: "ISTIO_META_CLUSTER_ID", Value: "c1"}}}
	client := fake.NewClientset(
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{
			corev1.LabelTopologyRegion: "r1", corev1.LabelTopologyZone: "z1", "topology.istio.io/subzone": "s1",
		}}},
		pod("sleep", "n1", proxied), pod("nowhere", "n2", proxied), pod("bare", "n1"),
	)
	for _, tt := range []struct {
		pod   string
		want  clientPosition
		wrong string
	}{
		{pod: "sleep", want: clientPosition{Pod: "sleep", Namespace: "shop", Cluster: "c1", Region: "r1", Zone: "z1", SubZone: "s1"}},
		{pod: "nowhere", want: clientPosition{Pod: "nowhere", Namespace: "shop", Cluster: "c1"}},
		{pod: "bare", wrong: "has no proxy of the mesh"},
		{pod: "none", wrong: "there is no pod none in namespace shop"},
	} {
		got, err := positionOf(t.Context(), client, "shop", tt.pod)
		switch {
		case tt.wrong == "" && (err != nil || got != tt.want):
			t.Errorf("%s stands at %+v, %v", tt.pod, got, err)
		case tt.wrong != "" && (err == nil || !strings.Contains(err.Error(), tt.wrong)):
			t.Errorf("%s: %v, want %q", tt.pod, err, tt.wrong)
		}
	}
}

// TestLocalitySettings: which rule has a say, and what else.
func TestLocalitySettings(t *testing.T) {
	rule := func(namespace, name, host string, policy map[string]any) unstructured.Unstructured {
		u := unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"host": host, "trafficPolicy": policy}}}
		u.SetNamespace(namespace)
		u.SetName(name)
		return u
	}
	outlier := map[string]any{"outlierDetection": map[string]any{}}
	local, zone := corev1.ServiceInternalTrafficPolicyLocal, "PreferSameZone"
	web := corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
		Spec:       corev1.ServiceSpec{InternalTrafficPolicy: &local, TrafficDistribution: &zone},
	}
	const host = "web.shop.svc.cluster.local"
	for _, tt := range []struct {
		name string
		settings
		want string
	}{
		{name: "nothing"},
		{
			name: "the client's own rule", want: "DestinationRule app/mine: trafficPolicy.loadBalancer.localityLbSetting",
			settings: settings{rules: []unstructured.Unstructured{
				rule("shop", "web", "web", outlier),
				rule("app", "mine", host, map[string]any{"loadBalancer": map[string]any{"localityLbSetting": map[string]any{}}}),
			}},
		},
		{
			name: "the service's, by a short name", want: "DestinationRule shop/web: trafficPolicy.outlierDetection",
			settings: settings{rules: []unstructured.Unstructured{rule("app", "other", "web", outlier), rule("shop", "web", "web", outlier)}},
		},
		{
			name: "the mesh's, by a suffix", want: "DestinationRule root/all: trafficPolicy.outlierDetection",
			settings: settings{root: "root", rules: []unstructured.Unstructured{rule("root", "all", "*.local", outlier)}},
		},
		{
			name: "the service itself, and the mesh",
			want: "Service shop/web: trafficDistribution PreferSameZone; Service shop/web: internalTrafficPolicy Local; mesh configuration: localityLbSetting",
			settings: settings{
				services: []corev1.Service{{ObjectMeta: metav1.ObjectMeta{Namespace: "app", Name: "web"}}, web},
				mesh:     map[string]any{"localityLbSetting": nil},
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := strings.Join(tt.of(host, "app"), "; "); got != tt.want {
				t.Errorf("set by %q, want %q", got, tt.want)
			}
		})
	}
}
