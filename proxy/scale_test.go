package proxy

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/proxy/mtls/mtlstest"
	"github.com/isthmus-mesh/isthmus/xds/fetch"
)

// BenchmarkStart gives a proxy a mesh of 1000 services with 10 endpoints each,
// and reports what it holds afterwards.
func BenchmarkStart(b *testing.B) {
	const services, perService = 1000, 10
	var clusters, loads, hosts []fetch.Resource
	for i := range services {
		named := func(s string) string { return strings.ReplaceAll(s, "web.bar", fmt.Sprintf("svc-%d.bar", i)) }
		clusters = append(clusters, res(b, typeCluster, named(outbound), "ALPN", `"istio-http/1.1","istio"`))
		one := named(endpoints)
		from := strings.Index(one, `{"metadata"`)
		to := strings.LastIndex(one, `]}]}`)
		var eps []string
		for j := range perService {
			eps = append(eps, strings.ReplaceAll(one[from:to], "127.0.0.1", fmt.Sprintf("10.%d.%d.%d", i/250, i%250, j+1)))
		}
		loads = append(loads, res(b, typeEndpoint, one[:from]+strings.Join(eps, ",")+one[to:], "MODE", "istio", "PORT", "8000"))
		hosts = append(hosts, res(b, typeVirtualHost, fmt.Sprintf(`{"name":"8000/svc-%[1]d.bar.svc.cluster.local","domains":["svc-%[1]d.bar","svc-%[1]d.bar:8000","svc-%[1]d.bar.svc.cluster.local"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":"outbound|8000||svc-%[1]d.bar","timeout":"0s"}}]}`, i)))
	}
	listeners := []fetch.Resource{
		res(b, typeListener, virtualOutbound, "CLUSTER", "PassthroughCluster"),
		res(b, typeListener, serviceHTTP, "CLUSTER", "PassthroughCluster"),
	}
	var before, after runtime.MemStats
	for b.Loop() {
		b.StopTimer()
		n := start(b, mtlstest.NewCA(b, "root").Identity(clientID))
		runtime.GC()
		runtime.ReadMemStats(&before)
		b.StartTimer()
		n.apply(typeCluster, clusters...)
		n.apply(typeEndpoint, loads...)
		n.apply(typeListener, listeners...)
		n.apply(typeRoute, res(b, typeRoute, hostsApart))
		n.apply(typeVirtualHost, hosts...)
		if err := n.Ready(); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB-held")
		n.stop()
		b.StartTimer()
	}
}

// BenchmarkEndpointUpdate replaces the endpoints of one cluster of ten
// endpoints.
func BenchmarkEndpointUpdate(b *testing.B) {
	n := start(b, mtlstest.NewCA(b, "root").Identity(clientID))
	n.apply(typeCluster, res(b, typeCluster, outbound, "ALPN", `"istio"`))
	var updates [2]fetch.Resource
	for i := range updates {
		updates[i] = res(b, typeEndpoint, endpoints, "MODE", "istio", "PORT", fmt.Sprint(8000+i))
	}
	for i := 0; b.Loop(); i++ {
		n.apply(typeEndpoint, updates[i%2])
	}
}
