package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/mtls/mtlstest"
)

// twoPods sets up client sidecar → two server sidecars → an application each.
// end begins the end of an application, as SIGTERM does, and waits for it.
func twoPods(t *testing.T) (client *node, pods [2]*node, loads func(...*node), end func(i int)) {
	t.Helper()
	ca := mtlstest.NewCA(t, "root")
	client = start(t, ca.Identity(clientID))
	var apps [2]*http.Server
	for i := range pods {
		ln, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		apps[i] = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(5 * time.Millisecond)
			_, _ = io.Copy(w, r.Body)
			fmt.Fprint(w, i)
		}), Protocols: new(http.Protocols)}
		apps[i].Protocols.SetHTTP1(true)
		apps[i].Protocols.SetUnencryptedHTTP2(true)
		go func() { _ = apps[i].Serve(ln) }()
		t.Cleanup(func() { apps[i].Close() })

		pods[i] = start(t, ca.Identity(serverID))
		pods[i].apply(typeCluster, res(t, typeCluster, inbound, "PORT", fmt.Sprint(ln.Addr().(*net.TCPAddr).Port)))
		pods[i].apply(typeListener, res(t, typeListener, virtualInbound, "CLUSTER", "inbound|8000||", "ALPN", `"h2","http/1.1"`))
	}

	client.apply(typeListener,
		res(t, typeListener, virtualOutbound, "CLUSTER", "PassthroughCluster"),
		res(t, typeListener, serviceHTTP, "CLUSTER", "outbound|8000||web.bar"))
	client.apply(typeCluster, res(t, typeCluster, passthrough), res(t, typeCluster, outbound, "ALPN", `"istio-http/1.1","istio"`))
	client.apply(typeRoute, res(t, typeRoute, routes))
	client.goingTo(netip.MustParseAddrPort("10.1.2.3:8000"))
	loads = func(of ...*node) {
		var list []string
		for _, n := range of {
			at, _ := n.Addr("virtualInbound")
			list = append(list, fmt.Sprintf(`{"metadata":{"filter_metadata":{"envoy.transport_socket_match":{"tlsMode":"istio"}}},"endpoint":{"address":{"socket_address":{"address":"127.0.0.1","port_value":%d}}}}`, at.Port()))
		}
		client.apply(typeEndpoint, res(t, typeEndpoint, `{"cluster_name":"outbound|8000||web.bar","endpoints":[{"lb_endpoints":[`+strings.Join(list, ",")+`]}]}`))
	}
	loads(pods[0], pods[1])
	return client, pods, loads, func(i int) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := apps[i].Shutdown(ctx); err != nil {
			t.Error(err)
		}
	}
}

// TestPodEnds: under load a pod drains, its endpoint is removed, and when the
// last caller has gone its application ends, then its proxy. No request fails,
// and the drain sends all callers away. (What is under way when an application
// ends too early is tried again elsewhere: package httpproxy.)
func TestPodEnds(t *testing.T) {
	for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
		t.Run(version, func(t *testing.T) {
			client, pods, loads, end := twoPods(t)
			addr, _ := client.Addr("virtualOutbound")
			tr := &http.Transport{Protocols: new(http.Protocols), MaxIdleConnsPerHost: 8}
			tr.Protocols.SetHTTP1(version == "HTTP/1.1")
			tr.Protocols.SetUnencryptedHTTP2(version == "HTTP/2")
			defer tr.CloseIdleConnections()
			calls := &http.Client{Transport: tr, Timeout: 10 * time.Second}

			var sent, failed atomic.Int64
			stop := make(chan struct{})
			var workers sync.WaitGroup
			for range 4 {
				workers.Go(func() {
					for {
						select {
						case <-stop:
							return
						case <-time.After(15 * time.Millisecond): // 200 a second, all in all
						}
						sent.Add(1)
						req, _ := http.NewRequest("POST", "http://"+addr.String()+"/", strings.NewReader("body"))
						req.Host = "web.bar"
						resp, err := calls.Do(req)
						if err != nil {
							failed.Add(1)
							t.Error(err)
							continue
						}
						body, err := io.ReadAll(resp.Body)
						resp.Body.Close()
						if err != nil || resp.StatusCode != 200 || !strings.HasPrefix(string(body), "body") {
							failed.Add(1)
							t.Errorf("%d %q, %v", resp.StatusCode, body, err)
						}
					}
				})
			}

			time.Sleep(300 * time.Millisecond)
			pods[0].DrainInbound()
			time.Sleep(300 * time.Millisecond) // callers have not heard yet
			loads(pods[1])
			for deadline := time.Now().Add(8 * time.Second); pods[0].Active() > 0; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Errorf("%d connections are left after the drain", pods[0].Active())
					break
				}
			}
			end(0)
			pods[0].stop()
			time.Sleep(200 * time.Millisecond)
			close(stop)
			workers.Wait()
			t.Logf("%d of %d failed", failed.Load(), sent.Load())
		})
	}
}
