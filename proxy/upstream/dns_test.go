package upstream

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// TestRefreshAfter: the TTL of records counts where the cluster says so and the
// records do.
func TestRefreshAfter(t *testing.T) {
	for _, tt := range []struct {
		name string
		c    config.Cluster
		ttl  time.Duration
		want time.Duration
	}{
		{
			name: "by TTL",
			c:    config.Cluster{DNSByTTL: true},
			ttl:  5 * time.Minute,
			want: 5 * time.Minute,
		},
		{
			name: "by TTL, below the time given",
			c:    config.Cluster{DNSByTTL: true, DNSRefresh: time.Minute},
			ttl:  3 * time.Second,
			want: 3 * time.Second,
		},
		{
			name: "by TTL, which is not known",
			c:    config.Cluster{DNSByTTL: true, DNSRefresh: time.Minute},
			want: time.Minute,
		},
		{
			name: "by TTL, which is not known, and no time given",
			c:    config.Cluster{DNSByTTL: true},
			want: dnsDefault,
		},
		{
			name: "not by TTL",
			c:    config.Cluster{DNSRefresh: time.Minute},
			ttl:  5 * time.Minute,
			want: time.Minute,
		},
	} {
		if got := refreshAfter(&tt.c, tt.ttl); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestDNSByTTL: a name is asked for again when its records have run out, long
// before the time that the cluster gives.
func TestDNSByTTL(t *testing.T) {
	r := &resolver{addrs: map[string][]netip.Addr{}, ttl: time.Second}
	r.set("a.example", "10.0.0.1")
	s := newTestSet(t, Options{Resolver: r})
	cfg := dnsCluster("a", config.ClusterStrictDNS, "a.example")
	cfg.DNSRefresh, cfg.DNSByTTL = time.Hour, true
	c := apply(t, s, cfg)
	c.WaitReady(context.Background())

	r.set("a.example", "10.0.0.2")
	for end := time.Now().Add(20 * time.Second); addresses(c) != "[10.0.0.2:80]"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the addresses are still %s", addresses(c))
		}
	}
}
