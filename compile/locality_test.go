package compile

import (
	"reflect"
	"testing"

	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/model"
)

// TestWhereAPodIs: a label of its own decides, then those of its node, whatever
// their age.
func TestWhereAPodIs(t *testing.T) {
	now := map[string]string{
		"topology.kubernetes.io/region": "r1", "topology.kubernetes.io/zone": "z1", "topology.istio.io/subzone": "s1",
	}
	before := map[string]string{
		"failure-domain.beta.kubernetes.io/region": "r0", "failure-domain.beta.kubernetes.io/zone": "z0",
	}
	for name, c := range map[string]struct {
		node, pod map[string]string
		want      model.Locality
	}{
		"nobody says":          {nil, nil, ""},
		"node":                 {now, nil, "r1/z1/s1"},
		"node of an old age":   {before, nil, "r0/z0"},
		"zone without region":  {map[string]string{"topology.kubernetes.io/zone": "z1"}, nil, ""},
		"pod":                  {now, map[string]string{"topology.istio.io/locality": "r2.z2.s2"}, "r2/z2/s2"},
		"pod, by the old name": {now, map[string]string{"istio-locality": "r3.z3"}, "r3/z3"},
		"pod, by both": {
			node: now,
			pod:  map[string]string{"istio-locality": "r3.z3", "topology.istio.io/locality": "r2"},
			want: "r2",
		},
	} {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1", Labels: c.pod},
			Status:     corev1.PodStatus{PodIP: "10.0.0.1"},
		}
		node := NodeOf(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: c.node}})
		if got := Workload("c1", pod, node).Locality; got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestWhereAnEntrysEndpointIs: its locality, or the label, as for a pod.
func TestWhereAnEntrysEndpointIs(t *testing.T) {
	obj := &api.Object{
		Kind: api.KindServiceEntry, Namespace: "shop", Name: "e",
		Annotations: map[string]string{api.AnnotationDistribution: "PreferSameNode"},
		Spec: &networking.ServiceEntry{
			Hosts: []string{"a.example"}, Resolution: networking.ServiceEntry_STATIC,
			Ports: []*networking.ServicePort{{Name: "http", Number: 80}},
			Endpoints: []*networking.WorkloadEntry{
				{Address: "10.0.0.1", Locality: "r1/z1/"},
				{Address: "10.0.0.2", Labels: map[string]string{"istio-locality": "r2.z2"}},
				{Address: "10.0.0.3", Locality: "r1", Labels: map[string]string{"istio-locality": "r2.z2"}},
				{Address: "10.0.0.4", Locality: "/z1"},
			},
		},
	}
	rows := ServiceEntry("c1", obj, nil)
	for i, want := range []model.Locality{"r1/z1", "r2/z2", "r1", ""} {
		if got := rows.Endpoints[0].Endpoints[i].Locality; got != want {
			t.Errorf("endpoint %d: %q, want %q", i, got, want)
		}
	}
	if got := rows.Services[0].Distribution; got != model.PreferNode {
		t.Errorf("distribution %d, want that of the annotation", got)
	}
}

func TestLocalitySetting(t *testing.T) {
	for name, c := range map[string]struct {
		in   *networking.LocalityLoadBalancerSetting
		want *model.LocalitySetting
	}{
		"none":  {nil, nil},
		"empty": {&networking.LocalityLoadBalancerSetting{}, &model.LocalitySetting{}},
		"off": {
			in: &networking.LocalityLoadBalancerSetting{
				Enabled: wrapperspb.Bool(false), FailoverPriority: []string{"a"},
			},
			want: &model.LocalitySetting{Off: true},
		},
		"all": {
			in: &networking.LocalityLoadBalancerSetting{
				Enabled: wrapperspb.Bool(true),
				Distribute: []*networking.LocalityLoadBalancerSetting_Distribute{
					{From: "r1/*", To: map[string]uint32{"r2": 20, "r1/*": 80}},
				},
				Failover:         []*networking.LocalityLoadBalancerSetting_Failover{{From: "r1", To: "r2"}},
				FailoverPriority: []string{"a", "b=", "c=d"},
			},
			want: &model.LocalitySetting{
				Distribute: []model.Distribute{{From: "r1/*", To: []model.LocalityShare{{To: "r1/*", Percent: 80}, {To: "r2", Percent: 20}}}},
				Failover:   map[string]string{"r1": "r2"},
				Priority:   []model.PriorityLabel{{Key: "a"}, {Key: "b", Fixed: true}, {Key: "c", Fixed: true, Value: "d"}},
			},
		},
	} {
		if got := localitySetting(c.in); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
