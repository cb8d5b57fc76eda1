package compile

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/model"
)

func TestProtocol(t *testing.T) {
	h2c, mysql, odd := "kubernetes.io/h2c", "mysql", "example.com/odd"
	for _, c := range []struct {
		name string
		app  *string
		port int32
		want model.Protocol
	}{
		{"http", nil, 80, model.HTTP},
		{"HTTP-web", nil, 80, model.HTTP},
		{"http2-x", nil, 80, model.HTTP2},
		{"grpc", nil, 80, model.GRPC},
		{"grpc-web", nil, 80, model.GRPCWeb},
		{"grpc-web-x", nil, 80, model.GRPCWeb},
		{"https-x", nil, 80, model.TLS},
		{"tls", nil, 80, model.TLS},
		{"tcp-x", nil, 80, model.TCP},
		{"redis", nil, 80, model.TCP},
		{"", nil, 80, model.Unknown},
		{"web", nil, 80, model.Unknown},
		{"httpish", nil, 80, model.Unknown},
		{"", nil, 3306, model.TCP},
		{"http", nil, 3306, model.HTTP},
		{"http", &h2c, 80, model.HTTP2},
		{"http", &mysql, 80, model.TCP},
		{"http", &odd, 80, model.HTTP},
	} {
		if got := Protocol(c.name, c.app, c.port); got != c.want {
			t.Errorf("Protocol(%q, %v, %d) = %s, want %s", c.name, c.app, c.port, got, c.want)
		}
	}
}

func TestService(t *testing.T) {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", Annotations: map[string]string{exportToAnnotation: "., other"}},
		Spec: corev1.ServiceSpec{
			ClusterIP: "10.0.0.1", ClusterIPs: []string{"10.0.0.1", "fd00::1"},
			Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{
				{Name: "tcp-b", Port: 9000, TargetPort: intstr.FromString("named")},
				{Name: "http-a", Port: 80, TargetPort: intstr.FromInt32(8080)},
				{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP},
				{Name: "grpc", Port: 7000},
			},
		},
	}
	got, reason := Service("c1", svc, "cluster.local", "")
	want := &model.Service{
		Host: "web.shop.svc.cluster.local", Cluster: "c1", Namespace: "shop", Name: "web",
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("fd00::1/128")},
		Ports: []model.Port{
			{Name: "http-a", Number: 80, Protocol: model.HTTP, Target: 8080},
			{Name: "grpc", Number: 7000, Protocol: model.GRPC, Target: 7000},
			{Name: "tcp-b", Number: 9000, Protocol: model.TCP, TargetName: "named"},
		},
		Selector: map[string]string{"app": "web"},
		ExportTo: []string{"other", "shop"},
	}
	if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); d != "" || reason != "" {
		t.Fatalf("%s\n%s", reason, d)
	}
	svc.Spec.ClusterIP = corev1.ClusterIPNone
	if got, _ := Service("c1", svc, "cluster.local", ""); !got.Headless || got.Resolution != model.ByDestination || len(got.Addresses) != 0 {
		t.Errorf("headless: %+v", got)
	}
}

// TestServiceSaysWhereTrafficGoes: what of a Service decides which endpoints are
// used.
func TestServiceSaysWhereTrafficGoes(t *testing.T) {
	local, zone, node := corev1.ServiceInternalTrafficPolicyLocal, "PreferClose", "PreferSameNode"
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", Annotations: map[string]string{api.AnnotationDistribution: zone}},
		Spec: corev1.ServiceSpec{ClusterIP: "10.0.0.1", Ports: []corev1.ServicePort{{
			Name: "http",
			Port: 80,
		}}},
	}
	if got, _ := Service("c1", svc, "cluster.local", ""); got.NodeLocal || got.NotReadyToo || got.Distribution != model.PreferZone {
		t.Errorf("by annotation: %+v", got)
	}
	if got, _ := Service("c1", svc, "cluster.local", "PreferSameNode"); got.Distribution != model.PreferZone {
		t.Errorf("its namespace's annotation stands above its own: %+v", got)
	}
	svc.Annotations[api.AnnotationDistribution] = "Any"
	if got, _ := Service("c1", svc, "cluster.local", "PreferSameNode"); got.Distribution != model.DistributeAny {
		t.Errorf("its namespace's annotation stands above Any: %+v", got)
	}
	delete(svc.Annotations, api.AnnotationDistribution)
	if got, _ := Service("c1", svc, "cluster.local", "PreferSameNode"); got.Distribution != model.PreferNode {
		t.Errorf("by its namespace's annotation: %+v", got)
	}

	svc.Spec.InternalTrafficPolicy, svc.Spec.TrafficDistribution, svc.Spec.PublishNotReadyAddresses = &local, &node, true
	got, _ := Service("c1", svc, "cluster.local", "")
	if !got.NodeLocal || !got.NotReadyToo || got.Distribution != model.PreferNode {
		t.Errorf("by its fields: %+v", got)
	}
	no, nodeName, name, number := false, "n7", "http", int32(8080)
	slice := &discoveryv1.EndpointSlice{
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &number}},
		Endpoints: []discoveryv1.Endpoint{{
			Addresses:  []string{"10.1.0.1"},
			NodeName:   &nodeName,
			Conditions: discoveryv1.EndpointConditions{Ready: &no},
		}},
	}
	in := Lookups{
		Workload: func(string, string) *model.Workload { return nil },
		Node:     func(string) Node { return Node{} },
	}
	if set, _ := Endpoints(got, []*discoveryv1.EndpointSlice{slice}, in); len(set.Endpoints) != 1 || set.Endpoints[0].Node != nodeName {
		t.Errorf("endpoints that are not ready: %+v", set.Endpoints)
	}
	got.NotReadyToo = false
	if set, _ := Endpoints(got, []*discoveryv1.EndpointSlice{slice}, in); len(set.Endpoints) != 0 {
		t.Errorf("endpoints: %+v, though none is ready", set.Endpoints)
	}
}

// TestExternalName: a name for something elsewhere, or for another service; its
// ports are those of what it names.
func TestExternalName(t *testing.T) {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "ext"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeExternalName, ExternalName: "HTTPbin.org.",
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}
	got, reason := Service("c1", svc, "cluster.local", "")
	if got == nil || got.Alias != "httpbin.org" || !got.External || got.Resolution != model.ByDNS || len(got.Addresses) != 0 {
		t.Fatalf("%+v, %q", got, reason)
	}
	want := []model.Endpoint{{Address: "httpbin.org", Ports: map[string]uint16{"http": 80}}}
	if d := cmp.Diff(want, got.Resolved); d != "" {
		t.Error(d)
	}
	svc.Spec.Ports = nil
	if got, reason := Service("c1", svc, "cluster.local", ""); got == nil {
		t.Errorf("without ports: %s", reason)
	}
	for _, name := range []string{"localhost", "a.localhost.", "127.0.0.1", "169.254.169.254"} {
		svc.Spec.ExternalName = name
		if got, reason := Service("c1", svc, "cluster.local", ""); got != nil || reason == "" {
			t.Errorf("%s: %+v, %q", name, got, reason)
		}
	}
}

func pod(name, ip string, labels map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: labels},
		Spec:       corev1.PodSpec{ServiceAccountName: "web", NodeName: "n1"},
		Status:     corev1.PodStatus{PodIP: ip, Phase: corev1.PodRunning},
	}
}

func TestEndpointsJoinPods(t *testing.T) {
	yes, no := true, false
	controller := true
	p1 := pod("web-1", "10.1.0.1", map[string]string{labelTLSMode: "istio", "app": "web", "pod-template-hash": "abc"})
	p1.OwnerReferences = []metav1.OwnerReference{{
		Kind:       "ReplicaSet",
		Name:       "web-abc",
		Controller: &controller,
	}}
	workloads := map[string]*model.Workload{
		"web-1": Workload("c1", p1, Node{Locality: "r/z"}),
		"web-2": Workload("c1", pod("web-2", "10.1.0.2", map[string]string{LabelNetwork: "other"}), Node{Locality: "r/z", Network: "of its node"}),
	}
	name, portNumber := "http", int32(8080)
	slice := func(conditions ...*bool) *discoveryv1.EndpointSlice {
		s := &discoveryv1.EndpointSlice{
			AddressType: discoveryv1.AddressTypeIPv4,
			Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &portNumber}},
		}
		for i, ready := range conditions {
			pod := []string{"web-1", "web-2", "web-3"}[i]
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{"10.1.0." + pod[4:]}, Conditions: discoveryv1.EndpointConditions{Ready: ready},
				TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: pod},
			})
		}
		return s
	}
	svc := &model.Service{Host: "web.shop.svc.cluster.local", Cluster: "c1", Namespace: "shop", Name: "web",
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}}
	in := Lookups{
		Workload: func(_, name string) *model.Workload { return workloads[name] },
		Node:     func(string) Node { return Node{} },
	}
	v6 := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv6,
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"fd00::1"}}}}
	set, traits := Endpoints(svc, []*discoveryv1.EndpointSlice{slice(&yes, nil, &no), v6}, in)
	ports := map[string]uint16{"http": 8080}
	want := []model.Endpoint{
		{Address: "10.1.0.1", Ports: ports, Locality: "r/z", Node: "n1", TLS: true, Account: "shop/web",
			Workload: "web;shop;web;latest;c1", Labels: p1.Labels},
		{Address: "10.1.0.2", Ports: ports, Network: "other", Locality: "r/z", Node: "n1", Account: "shop/web",
			Workload: "web-2;shop;web-2;latest;c1", Labels: map[string]string{LabelNetwork: "other"}},
	}
	if d := cmp.Diff(want, set.Endpoints); d != "" {
		t.Error(d)
	}
	if !cmp.Equal(traits.Accounts, []string{"shop/web"}) || traits.Addresses != nil {
		t.Errorf("traits: %+v", traits)
	}
}

// TestHostnames: the pods of a headless service have names of their own in DNS; those
// of others have none, whatever their slices say.
func TestHostnames(t *testing.T) {
	hostname := "db-0"
	slice := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{
		Addresses: []string{"10.1.0.1"}, Hostname: &hostname,
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "db-0"},
	}}}
	for _, workload := range []*model.Workload{nil, {Name: "db-0", Namespace: "shop"}} {
		in := Lookups{
			Workload: func(string, string) *model.Workload { return workload },
			Node:     func(string) Node { return Node{} },
		}
		for headless, want := range map[bool]string{true: "db-0", false: ""} {
			set, traits := Endpoints(&model.Service{Namespace: "shop", Name: "db", Headless: headless}, []*discoveryv1.EndpointSlice{slice}, in)
			if got := set.Endpoints[0].Hostname; got != want {
				t.Errorf("headless %v: host name %q, want %q", headless, got, want)
			}
			if headless && traits.Members[0].Hostname != want {
				t.Errorf("the clients of a headless service do not see the host name")
			}
		}
	}
}

// TestEndingEndpoints: a pod that is ending gets new requests only where no pod
// is ready, and then only while it serves.
func TestEndingEndpoints(t *testing.T) {
	yes, no := true, false
	name, portNumber := "http", int32(8080)
	svc := &model.Service{Host: "web.shop.svc.cluster.local", Cluster: "c1", Namespace: "shop", Name: "web"}
	in := Lookups{
		Workload: func(string, string) *model.Workload { return nil },
		Node:     func(string) Node { return Node{} },
	}
	running := discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &no}
	starting := discoveryv1.EndpointConditions{Ready: &no, Serving: &no, Terminating: &no}
	ending := discoveryv1.EndpointConditions{Ready: &no, Serving: &yes, Terminating: &yes}
	ended := discoveryv1.EndpointConditions{Ready: &no, Serving: &no, Terminating: &yes}
	for _, tt := range []struct {
		what       string
		conditions []discoveryv1.EndpointConditions
		want       []string
	}{
		{
			"a rolling restart",
			[]discoveryv1.EndpointConditions{ending, running, ended, starting},
			[]string{"10.1.0.2"},
		},
		{
			"all are ending",
			[]discoveryv1.EndpointConditions{ending, ended, ending},
			[]string{"10.1.0.1", "10.1.0.3"},
		},
		{
			"the next one is not up yet",
			[]discoveryv1.EndpointConditions{ending, starting},
			[]string{"10.1.0.1"},
		},
		{
			"nobody serves",
			[]discoveryv1.EndpointConditions{ended, starting},
			nil,
		},
		{
			"nothing is said",
			[]discoveryv1.EndpointConditions{{}},
			[]string{"10.1.0.1"},
		},
	} {
		// Each endpoint stands in a slice of its own: the rule is the service's.
		var all []*discoveryv1.EndpointSlice
		for i, c := range tt.conditions {
			all = append(all, &discoveryv1.EndpointSlice{
				AddressType: discoveryv1.AddressTypeIPv4,
				Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &portNumber}},
				Endpoints: []discoveryv1.Endpoint{{
					Addresses:  []string{fmt.Sprintf("10.1.0.%d", i+1)},
					Conditions: c,
				}},
			})
		}
		set, _ := Endpoints(svc, all, in)
		var got []string
		for _, e := range set.Endpoints {
			got = append(got, e.Address)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: %s", tt.what, d)
		}
	}
}

// TestEndpointsWhoseNodeIsLost: where Kubernetes calls all pods not ready because it
// does not hear of their nodes, those that have not said so themselves are better than
// none, and say what they are.
func TestEndpointsWhoseNodeIsLost(t *testing.T) {
	yes, no := true, false
	name, number := "http", int32(8080)
	answers := map[string]bool{"lost": true, "lost-too": true}
	in := Lookups{
		Workload: func(string, string) *model.Workload { return nil },
		Answers:  func(namespace, name string) bool { return namespace == "shop" && answers[name] },
		Node:     func(string) Node { return Node{} },
	}
	type endpoint struct {
		pod        string
		conditions discoveryv1.EndpointConditions
	}
	notReady := discoveryv1.EndpointConditions{Ready: &no, Serving: &no, Terminating: &no}
	deleted := discoveryv1.EndpointConditions{Ready: &no, Serving: &no, Terminating: &yes}
	ending := discoveryv1.EndpointConditions{Ready: &no, Serving: &yes, Terminating: &yes}
	for _, tt := range []struct {
		what        string
		notReadyToo bool
		endpoints   []endpoint
		want        map[string]bool // pod: of last resort
	}{
		{
			what:      "all are lost",
			endpoints: []endpoint{{"lost", notReady}, {"lost-too", notReady}},
			want:      map[string]bool{"lost": true, "lost-too": true},
		},
		{
			what:      "one has said so itself",
			endpoints: []endpoint{{"lost", notReady}, {"failing", notReady}},
			want:      map[string]bool{"lost": true},
		},
		{
			what:      "one is ready",
			endpoints: []endpoint{{"lost", notReady}, {"well", discoveryv1.EndpointConditions{Ready: &yes}}},
			want:      map[string]bool{"well": false},
		},
		{
			what:      "one is being deleted",
			endpoints: []endpoint{{"lost", deleted}},
			want:      map[string]bool{},
		},
		{
			what:      "one ends, but serves",
			endpoints: []endpoint{{"lost", notReady}, {"ending", ending}},
			want:      map[string]bool{"lost": true, "ending": false},
		},
		{
			what:        "readiness is not asked for",
			notReadyToo: true,
			endpoints:   []endpoint{{"lost", notReady}, {"failing", notReady}},
			want:        map[string]bool{"lost": false, "failing": false},
		},
	} {
		slice := &discoveryv1.EndpointSlice{
			AddressType: discoveryv1.AddressTypeIPv4,
			Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &number}},
		}
		pods := map[string]string{} // by address
		for i, e := range tt.endpoints {
			address := fmt.Sprintf("10.1.0.%d", i+1)
			pods[address] = e.pod
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
				Addresses:  []string{address},
				Conditions: e.conditions,
				TargetRef:  &corev1.ObjectReference{Kind: "Pod", Name: e.pod},
			})
		}

		svc := &model.Service{Namespace: "shop", Name: "web", NotReadyToo: tt.notReadyToo}
		set, _ := Endpoints(svc, []*discoveryv1.EndpointSlice{slice}, in)
		got := map[string]bool{}
		for _, e := range set.Endpoints {
			got[pods[e.Address]] = e.LastResort
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: %s", tt.what, d)
		}
	}
}

// TestPodAnswers: what the kubelet has said counts, whatever the condition Ready says.
func TestPodAnswers(t *testing.T) {
	ready := func(kind corev1.PodConditionType, status corev1.ConditionStatus) corev1.PodCondition {
		return corev1.PodCondition{Type: kind, Status: status}
	}
	const gate = corev1.PodConditionType("example.com/warm")
	for _, tt := range []struct {
		what   string
		change func(*corev1.Pod)
		want   bool
	}{
		{
			what:   "well",
			change: func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionTrue },
			want:   true,
		},
		{
			what:   "its node is lost",
			change: func(*corev1.Pod) {},
			want:   true,
		},
		{
			what:   "a container is not ready",
			change: func(p *corev1.Pod) { p.Status.Conditions[1].Status = corev1.ConditionFalse },
		},
		{
			what:   "nothing is said",
			change: func(p *corev1.Pod) { p.Status.Conditions = nil },
		},
		{
			what:   "a gate is shut",
			change: func(p *corev1.Pod) { p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: gate}} },
		},
		{
			what: "a gate is open",
			change: func(p *corev1.Pod) {
				p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: gate}}
				p.Status.Conditions = append(p.Status.Conditions, ready(gate, corev1.ConditionTrue))
			},
			want: true,
		},
		{
			what:   "it is being deleted",
			change: func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} },
		},
	} {
		p := pod("x", "10.0.0.1", nil)
		p.Status.Conditions = []corev1.PodCondition{ready(corev1.PodReady, corev1.ConditionFalse), ready(corev1.ContainersReady, corev1.ConditionTrue)}
		tt.change(p)
		if got := PodAnswers(p); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.what, got, tt.want)
		}
	}
}

func TestWorkloadLeavesOut(t *testing.T) {
	for what, change := range map[string]func(*corev1.Pod){
		"no address":   func(p *corev1.Pod) { p.Status.PodIP = "" },
		"host network": func(p *corev1.Pod) { p.Spec.HostNetwork = true },
		"finished":     func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded },
	} {
		p := pod("x", "10.0.0.1", nil)
		change(p)
		if Workload("c1", p, Node{}) != nil {
			t.Error(what)
		}
	}
}

func object(t *testing.T, text string) *api.Object {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	obj, err := api.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	return obj
}

func TestServiceEntry(t *testing.T) {
	obj := object(t, `
kind: ServiceEntry
metadata: {name: e, namespace: foo}
spec:
  hosts: [A.global, b.global]
  location: MESH_INTERNAL
  ports: [{name: http1, number: 8000, protocol: http}, {name: other, number: 9000, targetPort: 9001}]
  resolution: STATIC
  endpoints:
  - {address: 10.0.0.2, ports: {http1: 15443}, serviceAccount: sa}
  - {address: 10.0.0.1, labels: {security.istio.io/tlsMode: disabled}, serviceAccount: sa}
`)
	addr := netip.MustParseAddr("240.240.0.1")
	rows := ServiceEntry("c1", obj, map[string]netip.Addr{"a.global": addr})
	if len(rows.Services) != 2 || rows.Services[0].Host != "a.global" || rows.Services[0].Allocated != addr || rows.Services[1].Allocated.IsValid() {
		t.Fatalf("services: %+v", rows.Services)
	}
	want := []model.Endpoint{
		{
			Address: "10.0.0.1",
			Ports:   map[string]uint16{"http1": 8000, "other": 9001},
			Account: "foo/sa",
			Labels:  map[string]string{labelTLSMode: "disabled"},
		},
		{
			Address: "10.0.0.2",
			Ports:   map[string]uint16{"http1": 15443, "other": 9001},
			Account: "foo/sa",
			TLS:     true,
		},
	}
	if d := cmp.Diff(want, rows.Endpoints[0].Endpoints); d != "" {
		t.Error(d)
	}
	dns := object(t, "kind: ServiceEntry\nmetadata: {name: e, namespace: foo}\nspec: {hosts: [a.example.com], resolution: DNS, ports: [{name: tls, number: 443, protocol: TLS}]}")
	rows = ServiceEntry("c1", dns, nil)
	if len(rows.Endpoints) != 0 || len(rows.Services[0].Resolved) != 1 || rows.Services[0].Resolved[0].Address != "a.example.com" {
		t.Errorf("a host without endpoints is its own: %+v", rows.Services[0])
	}
}

func TestPolicies(t *testing.T) {
	dr := DestinationRule("c1", object(t, `
kind: DestinationRule
metadata: {name: d, namespace: foo}
spec:
  host: reviews
  exportTo: ["."]
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]
  subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {tls: {mode: ISTIO_MUTUAL, sni: x}}}]
`), "cluster.local")
	if d := cmp.Diff(&model.DestinationRule{
		Cluster: "c1", Namespace: "foo", Name: "d", Host: "reviews.foo.svc.cluster.local", ExportTo: []string{"foo"},
		Policy: model.TrafficPolicy{LoadBalancing: model.LBRoundRobin},
		Ports:  map[uint16]model.TrafficPolicy{80: {TLS: &model.ClientTLS{Mode: model.ClientTLSDisable}}},
		Subsets: []model.Subset{{Name: "v1", Labels: map[string]string{"version": "v1"},
			Policy: model.TrafficPolicy{TLS: &model.ClientTLS{Mode: model.ClientTLSMutualMesh, SNI: "x"}}}},
	}, dr); d != "" {
		t.Error(d)
	}
	pa := PeerAuthentication("c1", object(t, `
kind: PeerAuthentication
metadata: {name: p, namespace: foo}
spec: {selector: {matchLabels: {app: a}}, mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: DISABLE}, 9090: {}}}
`))
	if d := cmp.Diff(&model.PeerAuthentication{
		Cluster: "c1", Namespace: "foo", Name: "p", Selector: map[string]string{"app": "a"}, Mode: model.MTLSStrict,
		Ports: map[uint16]model.MTLSMode{8080: model.MTLSDisable, 9090: model.MTLSUnset},
	}, pa); d != "" {
		t.Error(d)
	}
	gw := Gateway("c1", object(t, `
kind: Gateway
metadata: {name: g, namespace: foo}
spec: {selector: {istio: gw}, servers: [{port: {number: 15443, name: tls, protocol: TLS}, hosts: ["*/*.Global"], tls: {mode: AUTO_PASSTHROUGH}}]}
`))
	if d := cmp.Diff([]model.GatewayServer{{Port: 15443, Name: "tls", Hosts: []string{"*.global"}}}, gw.Servers); d != "" {
		t.Error(d)
	}
}

func TestMesh(t *testing.T) {
	mc, _, err := api.LoadMeshConfig("{trustDomain: td, accessLogFile: /dev/stdout, accessLogEncoding: JSON, outboundTrafficPolicy: {mode: REGISTRY_ONLY}, enableAutoMtls: false, connectTimeout: 3s}")
	if err != nil {
		t.Fatal(err)
	}
	m := Mesh("c1", mc)
	if m.TrustDomain != "td" || m.AccessLog.File != "/dev/stdout" || !m.AccessLog.JSON || !m.RegistryOnly || m.AutoMTLS || m.ConnectTimeout.Seconds() != 3 {
		t.Errorf("%+v", m)
	}
	empty, _, err := api.LoadMeshConfig("")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(model.DefaultMesh("c1"), Mesh("c1", empty)); d != "" {
		t.Error(d)
	}
}

// TestProxyOfPod: what kind of proxy a pod has, and which ports pass through it,
// is read from how its containers are started.
func TestProxyOfPod(t *testing.T) {
	started := func(proxyArgs []string, redirectArgs ...string) *model.Workload {
		p := pod("web-1", "10.1.0.1", nil)
		p.Spec.Containers = []corev1.Container{{
			Name: "app",
			Args: []string{"router"},
		}, {
			Name: "istio-proxy",
			Args: proxyArgs,
		}}
		p.Spec.InitContainers = []corev1.Container{{Name: "istio-init", Args: redirectArgs}}
		return Workload("c1", p, Node{})
	}
	if w := started([]string{"sidecar"}); w.Router || w.Capture != nil {
		t.Errorf("a sidecar: %+v", w)
	}
	if !started([]string{"proxy", "router"}).Router {
		t.Error("a gateway is not seen as one")
	}
	for _, tt := range []struct {
		args         []string
		taken, freed []uint16
	}{
		{
			args:  nil,
			taken: []uint16{80, 9001},
			freed: []uint16{15020, 15021, 15090},
		},
		{
			args:  []string{"redirect", "--include-inbound-ports", "*", "--exclude-inbound-ports", "9001, 9002"},
			taken: []uint16{80},
			freed: []uint16{9001, 9002},
		},
		{
			args:  []string{"--include-inbound-ports", "80,81"},
			taken: []uint16{80, 81},
			freed: []uint16{9001},
		},
		{
			args:  []string{"--include-inbound-ports="},
			freed: []uint16{80},
		},
		{
			args:  []string{"--include-inbound-ports=80,81", "--exclude-inbound-ports=81"},
			taken: []uint16{80},
			freed: []uint16{81},
		},
	} {
		c := started([]string{"sidecar"}, tt.args...).Capture
		for _, p := range tt.taken {
			if !c.Takes(p) {
				t.Errorf("%v: port %d is not taken over", tt.args, p)
			}
		}
		for _, p := range tt.freed {
			if c.Takes(p) {
				t.Errorf("%v: port %d is taken over", tt.args, p)
			}
		}
	}
}
