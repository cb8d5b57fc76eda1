package serve_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// bulkView is a tableView with S services of about the size of real ones.
func bulkView(services int) (*tableView, []string) {
	v := newTable("bench")
	var names []string
	for _, typ := range []string{xds.TypeCluster, xds.TypeEndpoint, xds.TypeListener} {
		v.res[typ] = map[string]*serve.Resource{}
		for i := range services {
			name := fmt.Sprintf("outbound|80||svc-%d.bench.svc.cluster.local", i)
			if typ == xds.TypeEndpoint {
				names = append(names, name)
			}
			v.res[typ][name] = &serve.Resource{Name: name, Version: "1", Body: &anypb.Any{TypeUrl: typ, Value: make([]byte, 800)}}
		}
	}
	return v, names
}

// bulkClient acknowledges everything, and counts answers by type.
func bulkClient(ctx context.Context, conn *grpc.ClientConn, names []string, got func(typeURL string)) error {
	rpc, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx, grpc.MaxCallRecvMsgSize(1<<30))
	if err != nil {
		return err
	}
	for _, req := range []*discoveryv3.DeltaDiscoveryRequest{
		{Node: &corev3.Node{Id: nodeID}, TypeUrl: xds.TypeCluster},
		{TypeUrl: xds.TypeEndpoint, ResourceNamesSubscribe: names},
		{TypeUrl: xds.TypeListener},
	} {
		if err := rpc.Send(req); err != nil {
			return err
		}
	}
	for {
		var m discoveryv3.DeltaDiscoveryResponse
		if err := rpc.RecvMsg(&m); err != nil {
			return nil
		}
		if err := rpc.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: m.TypeUrl, ResponseNonce: m.Nonce}); err != nil {
			return nil
		}
		got(m.TypeUrl)
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkFleet measures, with server and 1000 clients in one process: the
// time until all have everything, the memory of each, and one endpoint change
// until the last of them has it. CPU figures include the clients'.
func BenchmarkFleet(b *testing.B) {
	for _, size := range []struct{ services, proxies int }{{1000, 100}, {100, 1000}, {1000, 1000}} {
		b.Run(fmt.Sprintf("S=%d/P=%d", size.services, size.proxies), func(b *testing.B) { fleet(b, size.services, size.proxies) })
	}
}

func fleet(b *testing.B, services, proxies int) {
	v, names := bulkView(services)
	r := newRig(b, v, nil)
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	var first, change sync.WaitGroup
	var changing sync.Mutex
	isChange := false
	first.Add(3 * proxies)
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start, cpu0 := time.Now(), cpu()
	for range proxies {
		conn, err := grpc.NewClient(r.conn.Target(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithReadBufferSize(4<<10))
		if err != nil {
			b.Fatal(err)
		}
		all.Go(func() {
			defer conn.Close()
			_ = bulkClient(ctx, conn, names, func(string) {
				changing.Lock()
				c := isChange
				changing.Unlock()
				if c {
					change.Done()
				} else {
					first.Done()
				}
			})
		})
	}
	first.Wait()
	syncTime, syncCPU := time.Since(start), cpu()-cpu0
	time.Sleep(4 * time.Second) // encoded answers are dropped
	var after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&after)
	changing.Lock()
	isChange = true
	changing.Unlock()
	cpu0 = cpu()
	b.ResetTimer()
	for i := range b.N {
		change.Add(proxies)
		v.mu.Lock()
		v.res[xds.TypeEndpoint][names[0]] = &serve.Resource{Name: names[0], Version: fmt.Sprint("v", i), Body: &anypb.Any{TypeUrl: xds.TypeEndpoint, Value: make([]byte, 800)}}
		close(v.channel(xds.TypeEndpoint))
		delete(v.changed, xds.TypeEndpoint)
		v.mu.Unlock()
		change.Wait()
	}
	b.StopTimer()
	b.ReportMetric(syncTime.Seconds(), "s/all-in-sync")
	b.ReportMetric(syncCPU.Seconds(), "cpu-s/all-in-sync")
	used := float64(after.HeapInuse+after.StackInuse) - float64(before.HeapInuse+before.StackInuse)
	b.ReportMetric(used/1024/float64(proxies), "KiB/proxy-both-ends")
	b.ReportMetric(float64((cpu()-cpu0).Microseconds())/1000/float64(b.N), "cpu-ms/change")
}
