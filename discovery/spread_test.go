package discovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	fakedynamic "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	fakemetadata "k8s.io/client-go/metadata/fake"

	"github.com/isthmus-mesh/isthmus/kube"
	"github.com/isthmus-mesh/isthmus/xds/fetch"
)

func TestSurplus(t *testing.T) {
	for _, tt := range []struct {
		own    int
		others []int
		want   int
	}{
		{own: 1, others: []int{0}, want: 0},
		{own: 2, others: []int{0}, want: 0}, // less than one above
		{own: 3, others: []int{0}, want: 1},
		{own: 2, others: []int{1}, want: 0},
		{own: 1, others: []int{0, 0}, want: 0},
		{own: 4, others: []int{0, 0}, want: 1},
		{own: 334, others: []int{333, 333}, want: 0},
		{own: 367, others: []int{316, 317}, want: 0}, // a tenth above its share
		{own: 368, others: []int{316, 316}, want: 1},
		{own: 1000, others: []int{0, 0}, want: 159}, // a quarter of 633
		{own: 0, others: []int{1000, 1000}, want: 0},
		{own: 10_000, others: []int{0, 0}, want: maxSpread},
	} {
		if got := surplus(tt.own, tt.others); got != tt.want {
			t.Errorf("of %d beside %v, %d go, want %d", tt.own, tt.others, got, tt.want)
		}
	}
}

// TestShareIsNotKnown: nobody is sent to replicas of which it is not certain that
// they take streams.
func TestShareIsNotKnown(t *testing.T) {
	counts := map[string]streamCount{"a": {"self", 9}, "b": {"other", 0}, "c": {"third", 0}}
	for name, tt := range map[string]struct {
		addresses []string
		want      []int
		known     bool
	}{
		"alone":                {addresses: []string{"a"}},
		"no Service":           {},
		"not led to itself":    {addresses: []string{"b", "c"}},
		"one does not answer":  {addresses: []string{"a", "b", "gone"}},
		"all of them answer":   {addresses: []string{"a", "b", "c"}, want: []int{0, 0}, known: true},
		"itself by two names":  {addresses: []string{"a", "a"}},
		"the others are known": {addresses: []string{"c", "a"}, want: []int{0}, known: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := &spreader{
				replica: "self", log: slog.New(slog.DiscardHandler),
				addresses: func() []string { return tt.addresses },
				ask: func(_ context.Context, address string) (streamCount, error) {
					c, ok := counts[address]
					if !ok {
						return c, errors.New("nobody there")
					}
					return c, nil
				},
			}
			got, known := p.others(t.Context())
			if known != tt.known || known && !slices.Equal(got, tt.want) {
				t.Errorf("%v, %v; want %v, %v", got, known, tt.want, tt.known)
			}
		})
	}
}

// replicas are control planes over one API server, and a way that leads to them in
// turn, as a Service does by chance.
type replicas struct {
	t      *testing.T
	client *fake.Clientset
	addr   string

	mu     sync.Mutex
	led    []string // where the way leads
	next   int
	planes []*Server
}

func newReplicas(t *testing.T) *replicas {
	t.Helper()
	r := &replicas{t: t, client: fake.NewClientset(&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "istiod", Namespace: "istio-system"},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.96.0.9", Ports: []corev1.ServicePort{{Name: monitoringPort, Port: 15014}}},
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { r.lead(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		conns.Wait()
	})
	return r
}

// lead carries a connection to the replica whose turn it is.
func (r *replicas) lead(down net.Conn) {
	defer down.Close()
	r.mu.Lock()
	to := r.led[r.next%len(r.led)]
	r.next++
	r.mu.Unlock()
	up, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer up.Close()
	go func() {
		_, _ = io.Copy(up, down) // either end may go first
		up.Close()
	}()
	_, _ = io.Copy(down, up)
}

// add starts a replica at a loopback address of its own, and leads to it.
func (r *replicas) add(n int) {
	r.t.Helper()
	at := fmt.Sprintf("127.0.0.%d:0", n)
	cfg := Default()
	cfg.Pod, cfg.StopDelay, cfg.Drain = fmt.Sprintf("istiod-%d", n), 0, time.Second
	cfg.Clients = kube.Clients{
		Kube:     r.client,
		Dynamic:  fakedynamic.NewSimpleDynamicClient(runtime.NewScheme()),
		Metadata: fakemetadata.NewSimpleMetadataClient(runtime.NewScheme()),
	}
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.Listen = Addresses{PlainXDS: at, XDS: at, Webhooks: at, Monitoring: at, Readiness: at}
	s, err := New(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	s.spreadRound = 50 * time.Millisecond
	(&controlPlane{t: r.t}).background(s.Run)
	r.eventually("ready", func() bool { return s.served.Load() })

	addr := netip.MustParseAddrPort(s.Addresses().Monitoring)
	ready, port, name := true, int32(addr.Port()), monitoringPort
	_, err = r.client.DiscoveryV1().EndpointSlices("istio-system").Create(r.t.Context(), &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: cfg.Pod, Namespace: "istio-system", Labels: map[string]string{discoveryv1.LabelServiceName: "istiod"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{addr.Addr().String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
	}, metav1.CreateOptions{})
	if err != nil {
		r.t.Fatal(err)
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	r.planes = append(r.planes, s)
	r.led = append(r.led, s.Addresses().PlainXDS)
}

func (r *replicas) eventually(what string, holds func() bool) {
	r.t.Helper()
	(&controlPlane{t: r.t}).eventually(what, holds)
}

// counts are the streams of each replica.
func (r *replicas) counts() (out []int) {
	for _, s := range r.planes {
		out = append(out, s.xds.Streams())
	}
	return out
}

// versions is a handler that counts what it is sent in the version that it has.
type versions struct {
	mu    sync.Mutex
	has   map[string]string
	again int
}

func (v *versions) Apply(typeURL string, added []fetch.Resource, removed []string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, r := range added {
		if v.has[typeURL+r.Name] == r.Version {
			v.again++
		}
		v.has[typeURL+r.Name] = r.Version
	}
	return nil
}

func (*versions) Wanted(string) []string         { return nil }
func (*versions) WantedChanged() <-chan struct{} { return nil }

// TestScalingSpreadsProxies: when two replicas come to one, they take their shares
// of its proxies, and nobody is sent what it has.
func TestScalingSpreadsProxies(t *testing.T) {
	const proxies = 30
	r := newReplicas(t)
	r.add(1)

	var handlers []*versions
	for i := range proxies {
		meta, err := structpb.NewStruct(map[string]any{"CLUSTER_ID": "Kubernetes"})
		if err != nil {
			t.Fatal(err)
		}
		h := &versions{has: map[string]string{}}
		handlers = append(handlers, h)
		c, err := fetch.New(fetch.Config{
			Address: r.addr, Handler: h,
			Node: &corev3.Node{Id: fmt.Sprintf("sidecar~10.1.0.%d~p-%d.shop~shop.svc.cluster.local", i+1, i), Metadata: meta},
		})
		if err != nil {
			t.Fatal(err)
		}
		(&controlPlane{t: t}).background(c.Run)
	}
	r.eventually("all proxies are there", func() bool { return r.planes[0].xds.Streams() == proxies })

	r.add(2)
	r.add(3)
	r.eventually("no replica has more than a tenth above its share", func() bool {
		total := 0
		for _, n := range r.counts() {
			if total += n; n > proxies/3+1 {
				return false
			}
		}
		return total == proxies
	})
	for _, h := range handlers {
		h.mu.Lock()
		if h.again > 0 {
			t.Errorf("a proxy was sent %d resources in the version that it had", h.again)
		}
		if len(h.has) == 0 {
			t.Error("a proxy was sent nothing")
		}
		h.mu.Unlock()
	}
}

// TestStopIsHeardOf: a control plane that is told to stop is not ready at once, and
// answers all the same until others have heard that.
func TestStopIsHeardOf(t *testing.T) {
	cfg := complete()
	cfg.Clients.Kube = fake.NewClientset()
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.StopDelay, cfg.Drain = 5*time.Second, 0
	cfg.Listen = Addresses{XDS: "127.0.0.1:0", PlainXDS: "127.0.0.1:0", Webhooks: "127.0.0.1:0", Monitoring: "127.0.0.1:0", Readiness: "127.0.0.1:0"}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c := &controlPlane{t: t, at: s.Addresses()}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	ready := func() int { code, _ := c.get(c.at.Readiness, "/ready"); return code }
	c.eventually("ready", func() bool { return ready() == http.StatusOK })

	cancel()
	c.eventually("not ready, and there", func() bool { return ready() == http.StatusServiceUnavailable })
	if code, body := c.get(c.at.Monitoring, "/version"); code != http.StatusOK {
		t.Errorf("it does not answer any more: %d %s", code, body)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
