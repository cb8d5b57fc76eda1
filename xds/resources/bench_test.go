package resources

import (
	"fmt"
	"testing"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

func BenchmarkEndpointChange(b *testing.B) {
	for _, s := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprint("S=", s), func(b *testing.B) {
			m := newMesh(b)
			services := fill(m, s, 10)
			v := m.view(node("sidecar", "ns0", "p", nil))
			names := []string{}
			for name := range m.resources(v, xds.TypeEndpoint) {
				names = append(names, name)
			}
			for _, typeURL := range allTypes {
				m.resources(v, typeURL)
			}
			built := m.source.Built()
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				_, wake, err := v.Resources(xds.TypeEndpoint, names)
				if err != nil {
					b.Fatal(err)
				}
				m.endpoints(services[i%s], "10.9.9.9", fmt.Sprintf("10.8.%d.%d", i/250%250, i%250))
				<-wake
				if _, _, err := v.Resources(xds.TypeEndpoint, names); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(m.source.Built()-built)/float64(b.N), "built/op")
		})
	}
}

func BenchmarkFirstView(b *testing.B) {
	for range b.N {
		b.StopTimer()
		m := newMesh(b)
		fill(m, 1000, 10)
		b.StartTimer()
		v := m.view(node("sidecar", "ns0", "p", nil))
		for _, typeURL := range allTypes {
			m.resources(v, typeURL)
		}
	}
}

// BenchmarkServiceChange is a ServiceEntry that comes, and BenchmarkTraitsChange
// an account that endpoints of a service run as besides: of all that a sidecar
// sees, little is another one then.
func BenchmarkServiceChange(b *testing.B) {
	m := newMesh(b)
	fill(m, 1000, 10)
	v := m.view(node("sidecar", "ns0", "p", nil))
	ask := func() {
		for _, typeURL := range allTypes {
			m.resources(v, typeURL)
		}
	}
	ask()
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		insert(m, m.store.Services, &model.Service{
			Host: fmt.Sprintf("entry-%d.example.com", i%50), Cluster: testCluster, Namespace: "ns0", Name: "entry",
			Origin: model.FromServiceEntry, Resolution: model.ByDestination, External: true,
			Ports: []model.Port{port("tls", uint16(1000+i/50), model.TLS, 443)},
		})
		ask()
	}
}

// BenchmarkHostChange changes one of ten thousand hosts on port 80, with the proxies
// that take whole route configurations and with those that take virtual hosts: first
// which requests are led where (a VirtualService), then what names there are (a
// ServiceEntry). bytes/op are those of the resources that are sent again.
func BenchmarkHostChange(b *testing.B) {
	changes := map[string]func(m *mesh, i int){
		"routes": func(m *mesh, i int) {
			insert(m, m.store.Virtuals, &model.VirtualService{
				Cluster: testCluster, Namespace: "ns0", Name: "v", Hosts: []string{"svc-0.ns0.svc.cluster.local"},
				HTTP: []model.HTTPRoute{{Direct: &model.DirectResponse{Status: uint32(200 + i%100)}}},
			})
		},
		"names": func(m *mesh, i int) {
			insert(m, m.store.Services, &model.Service{
				Host: fmt.Sprintf("entry-%d.example.com", i%50), Cluster: testCluster, Namespace: "ns0", Name: "entry",
				Origin: model.FromServiceEntry, Resolution: model.ByDestination, External: true,
				Ports: []model.Port{port(fmt.Sprint("http-", i), 80, model.HTTP, 80)},
			})
		},
	}
	for _, kind := range []string{"routes", "names"} {
		for _, form := range []string{"whole", "apart"} {
			b.Run(kind+"/"+form, func(b *testing.B) {
				m := newMesh(b)
				fill(m, 10_000, 1)
				n := node("sidecar", "ns0", "p", nil)
				if form == "apart" {
					n = takesHosts(n)
				}
				v := m.view(n)
				types := []string{xds.TypeRoute, xds.TypeVirtualHost}
				had := map[string]*serve.Resource{}
				sent := 0
				ask := func() {
					for _, typeURL := range types {
						for name, res := range m.resources(v, typeURL, "80") {
							if old := had[name]; old == nil || old.Version != res.Version {
								sent += len(res.Body.Value) + len(name)
								had[name] = res
							}
						}
					}
				}
				ask()
				b.ReportMetric(float64(sent), "first-bytes")
				sent = 0
				b.ReportAllocs()
				b.ResetTimer()
				for i := range b.N {
					changes[kind](m, i)
					ask()
				}
				b.ReportMetric(float64(sent)/float64(b.N), "bytes/op")
			})
		}
	}
}

func BenchmarkTraitsChange(b *testing.B) {
	m := newMesh(b)
	services := fill(m, 1000, 10)
	v := m.view(node("sidecar", "ns0", "p", nil))
	m.resources(v, xds.TypeCluster)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		s := services[i%len(services)]
		insert(m, m.store.Traits, &model.Traits{
			Host: s.Host, Cluster: s.Cluster, Namespace: s.Namespace, Name: s.Name, Accounts: []string{fmt.Sprint("ns/a", i)},
		})
		m.resources(v, xds.TypeCluster)
	}
}

// BenchmarkServiceChangeOfTwoClusters is a Service that comes to a cluster, where
// another has a thousand as well: then all of them have an address for elsewhere.
func BenchmarkServiceChangeOfTwoClusters(b *testing.B) {
	m := pairOfClusters(b, "net1", "net2")
	for _, s := range fill(m, 1000, 10) {
		insert(m, m.store.Services, far(s))
	}
	v := m.view(node("sidecar", "ns0", "p", nil))
	ask := func() {
		for _, typeURL := range allTypes {
			m.resources(v, typeURL)
		}
	}
	ask()
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		insert(m, m.store.Services, far(service("ns0", fmt.Sprint("new-", i%50), "10.96.0.1", port("http", uint16(1000+i/50), model.HTTP, 80))))
		ask()
	}
}

// BenchmarkThreeZones is a thousand proxies in three zones and ten namespaces that
// ask for everything, and then an endpoint that comes. What each place is sent is
// built once for it, and what does not depend on the place once for all.
func BenchmarkThreeZones(b *testing.B) {
	for range b.N {
		b.StopTimer()
		m := newMesh(b)
		services := fill(m, 1000, 10)
		var pods []*model.Workload
		for i := range 1000 {
			pods = append(pods, &model.Workload{
				Cluster: testCluster, Namespace: fmt.Sprint("ns", i%10), Name: fmt.Sprint("p-", i),
				Node: fmt.Sprint("n", i%50), Locality: model.MakeLocality("r1", fmt.Sprint("z", i%3), ""),
			})
		}
		insert(m, m.store.Workloads, pods...)
		b.StartTimer()

		views := make([]serve.View, len(pods))
		ask := func() {
			for _, v := range views {
				for _, typeURL := range allTypes {
					m.resources(v, typeURL)
				}
			}
		}
		for i, p := range pods {
			views[i] = m.view(node("sidecar", p.Namespace, p.Name, nil))
		}
		ask()
		first := m.source.Built()
		b.StopTimer()
		m.endpoints(services[0], "10.9.9.9")
		ask()
		b.StartTimer()
		b.ReportMetric(float64(first), "built")
		b.ReportMetric(float64(m.source.Built()-first), "built/change")
	}
}
