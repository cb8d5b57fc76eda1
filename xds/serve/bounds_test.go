package serve_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// ended waits for the error that a stream ends with.
func (c *client) ended() error {
	c.t.Helper()
	select {
	case err := <-c.err:
		return err
	case <-time.After(20 * time.Second):
		c.t.Fatal("the stream goes on")
		return nil
	}
}

func TestSilentStreamEnds(t *testing.T) {
	r := newRigWith(t, newTable("v"), nil, serve.Config{FirstRequest: 50 * time.Millisecond})
	if err := r.dial().ended(); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v", err)
	}
}

// 20 000 streams were taken on one connection, each with its goroutines.
func TestStreamsPerConnection(t *testing.T) {
	r := newRig(t, newTable("v"), nil)
	ads := discoveryv3.NewAggregatedDiscoveryServiceClient(r.conn)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first, err := ads.DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// Its answer says that the server's settings have come.
	if err := first.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: nodeID}, TypeUrl: xds.TypeEndpoint, ResourceNamesSubscribe: []string{"x"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Recv(); err != nil {
		t.Fatal(err)
	}

	opened := make(chan error)
	done := make(chan struct{})
	go func() {
		defer close(done)
		// A client that may not open another stream waits until one ends.
		for range 200 {
			_, err := ads.DeltaAggregatedResources(ctx)
			select {
			case opened <- err:
			case <-ctx.Done():
				return
			}
		}
	}()
	// Silence shows that no more are opened: short where it is expected, long where a
	// slow machine may be the reason.
	patience := func(open int) time.Duration {
		if open < 100 {
			return 20 * time.Second
		}
		return 2 * time.Second
	}
	open := 1
	for waiting := false; !waiting; {
		select {
		case err := <-opened:
			if err != nil {
				t.Fatal(err)
			}
			open++
		case <-time.After(patience(open)):
			waiting = true
		}
		waiting = waiting || open > 200
	}
	cancel()
	<-done
	if open != 100 {
		t.Errorf("%d streams were opened on one connection, want 100", open)
	}
}

func TestLargeRequestsAreRefused(t *testing.T) {
	metadata := func(bytes int) *structpb.Struct {
		return &structpb.Struct{Fields: map[string]*structpb.Value{"JUNK": structpb.NewStringValue(strings.Repeat("j", bytes))}}
	}
	many := func(prefix string) []string {
		names := make([]string, 3000)
		for i := range names {
			names[i] = fmt.Sprintf("%s-%04d-%s", prefix, i, strings.Repeat("n", 990))
		}
		return names
	}
	for name, tt := range map[string]struct {
		requests []*discoveryv3.DeltaDiscoveryRequest
		code     codes.Code
		says     string
	}{
		"node id": {
			requests: []*discoveryv3.DeltaDiscoveryRequest{{Node: &corev3.Node{Id: nodeID + strings.Repeat("x", 2000)}}},
			code:     codes.InvalidArgument, says: "node id has 2",
		},
		"control characters": {
			requests: []*discoveryv3.DeltaDiscoveryRequest{{Node: &corev3.Node{Id: "sidecar~10.0.0.1~a\nb.shop~shop.svc.cluster.local"}}},
			code:     codes.InvalidArgument, says: "control characters",
		},
		"metadata": {
			requests: []*discoveryv3.DeltaDiscoveryRequest{{Node: &corev3.Node{Id: nodeID, Metadata: metadata(100 << 10)}}},
			code:     codes.InvalidArgument, says: "metadata have",
		},
		"node": {
			requests: []*discoveryv3.DeltaDiscoveryRequest{{Node: &corev3.Node{Id: nodeID, Cluster: strings.Repeat("c", 300<<10)}}},
			code:     codes.InvalidArgument, says: "node has",
		},
		"message": {
			requests: []*discoveryv3.DeltaDiscoveryRequest{{Node: &corev3.Node{Id: nodeID, Cluster: strings.Repeat("c", 5<<20)}}},
			code:     codes.ResourceExhausted, says: "larger than max",
		},
		"type": {
			requests: []*discoveryv3.DeltaDiscoveryRequest{{Node: &corev3.Node{Id: nodeID}, TypeUrl: strings.Repeat("t", 300)}},
			code:     codes.InvalidArgument, says: "type URL has 300 bytes",
		},
		"name": {
			requests: []*discoveryv3.DeltaDiscoveryRequest{{Node: &corev3.Node{Id: nodeID}, TypeUrl: xds.TypeEndpoint, ResourceNamesSubscribe: []string{strings.Repeat("n", 2000)}}},
			code:     codes.InvalidArgument, says: "name of a resource has 2000 bytes",
		},
		"names, bit by bit": {
			requests: []*discoveryv3.DeltaDiscoveryRequest{
				{Node: &corev3.Node{Id: nodeID}, TypeUrl: xds.TypeEndpoint, ResourceNamesSubscribe: many("a")},
				{TypeUrl: xds.TypeEndpoint, ResourceNamesSubscribe: many("b")},
				{TypeUrl: xds.TypeRoute, ResourceNamesSubscribe: many("c")},
			},
			code: codes.ResourceExhausted, says: "names of more than 8 MiB",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newRig(t, newTable("v"), nil).dial()
			for _, req := range tt.requests {
				if err := c.rpc.Send(req); err != nil && !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
			}
			if err := c.ended(); status.Code(err) != tt.code || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %.300v, want %s that says %q", err, tt.code, tt.says)
			}
		})
	}
}

// nodeSource notes the nodes that it was asked about.
type nodeSource struct {
	tableSource
	nodes chan serve.Node
}

func (s *nodeSource) View(ctx context.Context, n serve.Node) (serve.View, <-chan struct{}, error) {
	s.nodes <- n
	return s.tableSource.View(ctx, n)
}

// An idle stream held whatever its node had said, up to 16 MiB.
func TestNodeIsTrimmed(t *testing.T) {
	src := &nodeSource{tableSource: tableSource{view: newTable("v"), changed: make(chan struct{})}, nodes: make(chan serve.Node, 1)}
	r := newRigFor(t, src, nil, serve.Config{})
	c := r.dial()
	meta := &structpb.Struct{Fields: map[string]*structpb.Value{"CLUSTER_ID": structpb.NewStringValue("c1")}}
	node := &corev3.Node{Id: nodeID, Cluster: strings.Repeat("c", 1000), Metadata: meta, Locality: &corev3.Locality{Region: "r"}}
	for range 100 {
		node.Extensions = append(node.Extensions, &corev3.Extension{Name: strings.Repeat("e", 100)})
	}
	if err := c.rpc.Send(&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: xds.TypeCluster}); err != nil {
		t.Fatal(err)
	}
	n := <-src.nodes
	if len(n.Core.Extensions) > 0 || n.Core.Cluster != "" {
		t.Error("the whole node is kept")
	}
	if n.Core.Id != nodeID || n.Core.Metadata.Fields["CLUSTER_ID"].GetStringValue() != "c1" || n.Core.Locality.GetRegion() != "r" {
		t.Errorf("too little is kept: %v", n.Core)
	}
}

func TestReasonOfARefusalIsBounded(t *testing.T) {
	v := newTable("v")
	v.edit(xds.TypeCluster, "a", "1")
	r := newRig(t, v, nil)
	c := r.dial()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.TypeCluster})
	m := c.want(xds.TypeCluster, "+a=1")
	why := "bad\nlevel=ERROR msg=\"made up\"\x1b[31m\x00" + strings.Repeat("ü", 100_000)
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.TypeCluster, ResponseNonce: m.Nonce, ErrorDetail: &rpcstatus.Status{Message: why}})

	var got string
	deadline := time.Now().Add(20 * time.Second)
	for got == "" {
		if time.Now().After(deadline) {
			t.Fatal("the refusal is not noted")
		}
		time.Sleep(time.Millisecond)
		if all := r.srv.Proxies(); len(all) == 1 {
			got = all[0].Types["cds"].Error
		}
	}
	if len(got) > 1100 || strings.ContainsAny(got, "\n\x00\x1b") || !strings.HasPrefix(got, "bad level=ERROR") || !strings.HasSuffix(got, fmt.Sprintf("… (%d bytes)", len(why))) {
		t.Errorf("noted with %d bytes: %.60q … %q", len(got), got, got[max(0, len(got)-30):])
	}
}

// Each type that anybody asked for became a time series for ever.
func TestUnknownTypesAreOneTimeSeries(t *testing.T) {
	registry := prometheus.NewRegistry()
	r := newRigWith(t, newTable("v"), nil, serve.Config{Registerer: registry})
	c := r.dial()
	for i := range 10 {
		typ := fmt.Sprint("type.googleapis.com/made.up.T", i)
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typ, ResourceNamesSubscribe: []string{"x"}})
		m := c.want(typ, "-x")
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typ, ResponseNonce: m.Nonce, ErrorDetail: &rpcstatus.Status{Message: "no"}})
	}
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.TypeCluster})
	c.want(xds.TypeCluster)

	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			for _, l := range m.Label {
				if l.GetName() == "type" && l.GetValue() != "cds" && l.GetValue() != "other" {
					t.Errorf("%s has a time series for type %q", f.GetName(), l.GetValue())
				}
			}
		}
	}
}

func TestOldStreamEndsInGoodOrder(t *testing.T) {
	v := newTable("v")
	v.edit(xds.TypeCluster, "a", "1")
	r := newRigWith(t, v, nil, serve.Config{MaxAge: 200 * time.Millisecond})
	start := time.Now()
	c := r.dial()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.TypeCluster})
	c.want(xds.TypeCluster, "+a=1")
	if err := c.ended(); !errors.Is(err, io.EOF) {
		t.Errorf("it ended with %v, want in good order", err)
	}
	if age := time.Since(start); age < 160*time.Millisecond {
		t.Errorf("it ended after %v", age)
	}
}

// A stream outlived the certificate that it was opened with.
func TestStreamEndsWithItsCertificate(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// Certificates count in seconds.
	until := time.Now().Add(5 * time.Second).Truncate(time.Second) // the stream is to stand before
	issue := func(notAfter time.Time) tls.Certificate {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), DNSNames: []string{"istiod"},
			NotBefore: time.Now().Add(-time.Minute), NotAfter: notAfter,
			IsCA: true, BasicConstraintsValid: true,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	}
	server, clientCert := issue(time.Now().Add(time.Hour)), issue(until)
	roots := x509.NewCertPool()
	roots.AddCert(server.Leaf)
	roots.AddCert(clientCert.Leaf)

	id := identity.ID{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "web"}
	src := &tableSource{view: newTable("v"), changed: make(chan struct{})}
	r := newRigFor(t, src, fixedAuth{id: id}, serve.Config{},
		grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{server}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert})))
	conn, err := grpc.NewClient(r.conn.Target(), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		ServerName: "istiod", RootCAs: roots, Certificates: []tls.Certificate{clientCert},
	})))
	if err != nil {
		t.Fatal(err)
	}
	r.conn.Close()
	r.conn = conn // closed with the rig
	c := r.dial()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.TypeCluster})
	c.want(xds.TypeCluster)
	err = c.ended()
	if status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "certificate has expired") {
		t.Errorf("it ended with %v", err)
	}
	if early := time.Until(until); early > 100*time.Millisecond {
		t.Errorf("it ended %v too early", early)
	}
}
