package conformance

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// drawTraffic is what a DestinationRule may say of a host.
func drawTraffic(r *rand.Rand, tls *model.ClientTLS) model.TrafficPolicy {
	p := model.TrafficPolicy{
		TLS:           tls,
		Locality:      drawLocalitySetting(r),
		LoadBalancing: pick(r, model.LBUnset, model.LBRoundRobin, model.LBRandom, model.LBLeastRequest, model.LBPeakEWMA),
	}
	if r.IntN(3) == 0 {
		p.Hash = drawHash(r)
	}
	if r.IntN(2) == 0 {
		p.Outlier = drawOutlier(r)
	}
	if r.IntN(2) == 0 {
		p.ConnectionPool = drawPool(r)
	}
	if r.IntN(3) == 0 {
		p.Warmup = &model.Warmup{Window: time.Second, MinPercent: maybe(r, 50*r.Float64()), Aggression: maybe(r, 0.1+r.Float64())}
	}
	if r.IntN(3) == 0 {
		p.RetryBudget = &model.RetryBudget{Percent: maybe(r, 100*r.Float64()), MinConcurrency: maybe(r, 1+r.Uint32N(3))}
	}
	return p
}

// maybe is a value, or none.
func maybe[T any](r *rand.Rand, v T) *T { return pick(r, nil, &v) }

func drawHash(r *rand.Rand) *model.ConsistentHash {
	h := pick(r,
		model.ConsistentHash{Header: "x-user"}, model.ConsistentHash{Query: "user"}, model.ConsistentHash{SourceIP: true},
		model.ConsistentHash{Cookie: &model.HashCookie{Name: "id", Path: "/a"}},
		model.ConsistentHash{Cookie: &model.HashCookie{
			Name: "id", Generate: true, TTL: pick(r, 0, time.Minute),
			Attributes: pick(r, nil, []model.CookieAttribute{{Name: "SameSite", Value: "Lax"}, {Name: "Secure"}}),
		}})
	if h.Maglev = r.IntN(2) == 0; h.Maglev {
		h.Size = pick[uint64](r, 0, 251)
	} else {
		h.Size = pick[uint64](r, 0, 1, 4096)
	}
	return &h
}

func drawOutlier(r *rand.Rand) *model.OutlierDetection {
	return &model.OutlierDetection{
		Consecutive5xx:     maybe(r, r.Uint32N(3)),
		ConsecutiveGateway: maybe(r, r.Uint32N(3)),
		SplitLocal:         r.IntN(2) == 0,
		ConsecutiveLocal:   maybe(r, r.Uint32N(3)),
		Interval:           pick(r, 0, time.Second),
		BaseEjection:       pick(r, 0, time.Millisecond),
		MaxPercent:         r.Uint32N(101),
		MinHealthPercent:   r.Uint32N(101),
	}
}

func drawPool(r *rand.Rand) *model.ConnectionPool {
	return &model.ConnectionPool{
		ConnectTimeout: pick(r, 0, time.Millisecond),
		Keepalive:      drawKeepalive(r),
		MaxConnections: r.Uint32N(2), MaxPending: r.Uint32N(2), MaxRequests: r.Uint32N(2), MaxRetries: r.Uint32N(2),
		MaxRequestsPerConnection: r.Uint32N(2), MaxStreams: r.Uint32N(2),
		MaxAge:         pick(r, 0, time.Second),
		TCPIdle:        maybe(r, pick(r, 0, time.Second)),
		HTTPIdle:       maybe(r, time.Second),
		HTTP2Ping:      maybe(r, model.HTTP2Ping{Interval: time.Second, Timeout: time.Millisecond}),
		ClientProtocol: r.IntN(2) == 0,
	}
}

func drawKeepalive(r *rand.Rand) *model.TCPKeepalive {
	return maybe(r, model.TCPKeepalive{Probes: r.Uint32N(2), Time: pick(r, 0, time.Second), Interval: pick(r, 0, time.Second)})
}

// drawMeshTraffic is what a MeshConfig may say of all requests and connections.
func drawMeshTraffic(r *rand.Rand, m *model.Mesh) {
	m.ConnectTimeout = pick(r, 0, time.Second)
	m.Keepalive = drawKeepalive(r)
	if r.IntN(2) == 0 {
		m.Retry = &model.RetryPolicy{
			Attempts: r.Uint32N(3),
			On:       pick(r, nil, []string{"5xx"}, []string{"retriable-status-codes", "unavailable"}),
			Statuses: pick(r, nil, []uint32{400, 599}),
			PerTry:   pick(r, 0, time.Second), Backoff: pick(r, 0, time.Millisecond),
			OtherPlaces: r.IntN(2) == 0, OtherEndpoints: r.IntN(2) == 0,
		}
	}
}

// TestRetryConditions: the proxy carries out every condition that package api lets
// through.
func TestRetryConditions(t *testing.T) {
	conditions, _, wrong := api.RetryOn(strings.Join(api.RetryConditions(), ","))
	if len(wrong) > 0 || len(conditions) != len(api.RetryConditions()) {
		t.Fatalf("of %v, %v are left, and %v is wrong", api.RetryConditions(), conditions, wrong)
	}
	for _, on := range conditions {
		body, err := anypb.New(&routev3.RouteConfiguration{Name: "80", VirtualHosts: []*routev3.VirtualHost{{
			Name: "a", Domains: []string{"*"}, Routes: []*routev3.Route{{
				Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
				Action: &routev3.Route_Route{Route: &routev3.RouteAction{
					ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: "c"},
					RetryPolicy:      &routev3.RetryPolicy{RetryOn: on},
				}},
			}},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := config.DecodeRouteConfiguration(body); err != nil {
			t.Errorf("%s: %v", on, err)
		}
	}
}
