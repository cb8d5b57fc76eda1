package api

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// served is an API server that serves the resources of each group version; the
// first version of a group is the preferred one.
type served []*metav1.APIResourceList

func (s served) ServerGroups() (*metav1.APIGroupList, error) {
	out := &metav1.APIGroupList{}
	for _, list := range s {
		group, version, _ := strings.Cut(list.GroupVersion, "/")
		v := metav1.GroupVersionForDiscovery{GroupVersion: list.GroupVersion, Version: version}
		if n := len(out.Groups); n > 0 && out.Groups[n-1].Name == group {
			out.Groups[n-1].Versions = append(out.Groups[n-1].Versions, v)
			continue
		}
		out.Groups = append(out.Groups, metav1.APIGroup{Name: group, PreferredVersion: v, Versions: []metav1.GroupVersionForDiscovery{v}})
	}
	return out, nil
}

func (s served) ServerResourcesForGroupVersion(groupVersion string) (*metav1.APIResourceList, error) {
	for _, list := range s {
		if list.GroupVersion == groupVersion {
			return list, nil
		}
	}
	panic("nobody told of " + groupVersion)
}

func resources(groupVersion string, names ...string) *metav1.APIResourceList {
	list := &metav1.APIResourceList{GroupVersion: groupVersion}
	for _, n := range names {
		list.APIResources = append(list.APIResources, metav1.APIResource{Name: n})
	}
	return list
}

// TestNotHonouredInCluster: each kind is found in the version that has it,
// security first, and no kind that is honoured.
func TestNotHonouredInCluster(t *testing.T) {
	got, err := NotHonouredIn(served{
		resources("apps/v1", "deployments"),
		resources("networking.istio.io/v1", "gateways", "serviceentries", "workloadentries", "workloadentries/status"),
		resources("networking.istio.io/v1alpha3", "envoyfilters", "workloadentries"),
		resources("security.istio.io/v1", "requestauthentications", "peerauthentications"),
		resources("extensions.istio.io/v1alpha1", "wasmplugins", "wasmplugins/status"),
		resources("gateway.networking.k8s.io/v1", "httproutes", "httproutes/status"),
	})
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, k := range got {
		line := k.Group + "/" + k.Version + " " + k.Kind
		if k.Status {
			line += " status"
		}
		text = append(text, line)
	}
	const want = `extensions.istio.io/v1alpha1 WasmPlugin status
networking.istio.io/v1alpha3 EnvoyFilter
networking.istio.io/v1 WorkloadEntry status
gateway.networking.k8s.io/v1 HTTPRoute status`
	if s := strings.Join(text, "\n"); s != want {
		t.Errorf("found\n%s\nwant\n%s", s, want)
	}
}

// TestNotHonouredKindsSayWhy: every kind says that it is without effect and what
// to do; what speaks of security comes first among those of Istio.
func TestNotHonouredKindsSayWhy(t *testing.T) {
	plain := false
	for _, k := range NotHonouredKinds() {
		if why := k.Why(); !strings.HasPrefix(why, k.Kind) || !strings.Contains(why, "is not honoured") || !strings.HasSuffix(why, ": "+k.instead) || k.instead == "" {
			t.Errorf("%s says %q", k.Kind, why)
		}
		if plain && k.Security {
			t.Errorf("%s, which is security, stands after what is not", k.Kind)
		}
		plain = !k.Security
		if newSpec(Kind(k.Kind)) != nil && !k.Shared() {
			t.Errorf("%s is honoured", k.Kind)
		}
	}
}
