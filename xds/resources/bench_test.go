package resources

import (
	"fmt"
	"testing"

	"github.com/isthmus-mesh/isthmus/xds"
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
				m.resources(v, xds.TypeEndpoint, names...)
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
