package plan_test

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/lab/internal/plan"
)

func TestNewRefusesWhatCannotBeBuilt(t *testing.T) {
	for _, c := range []struct {
		name     string
		lab      string
		clusters int
		network  plan.Network
		version  string
		want     string // part of the error; empty for none
	}{
		{"good", "default", 2, plan.MultiNetwork, "v1.37.2", ""},
		{"largest", "a", plan.MaxClusters, plan.SingleNetwork, "v1.34.2", ""},
		{"path in name", "../x", 2, plan.MultiNetwork, "v1.37.2", "lab name"},
		{"upper case", "Lab", 2, plan.MultiNetwork, "v1.37.2", "lab name"},
		{"empty name", "", 2, plan.MultiNetwork, "v1.37.2", "lab name"},
		{"long name", strings.Repeat("a", 33), 2, plan.MultiNetwork, "v1.37.2", "lab name"},
		{"no cluster", "x", 0, plan.MultiNetwork, "v1.37.2", "0 clusters"},
		{"too many", "x", plan.MaxClusters + 1, plan.MultiNetwork, "v1.37.2", "17 clusters"},
		{"odd network", "x", 2, "flat", "v1.37.2", `network "flat"`},
		{"odd version", "x", 2, plan.MultiNetwork, "1.37", "of Kubernetes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := plan.New(c.lab, c.clusters, c.network, c.version)
			if c.want == "" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got error %v, want one with %q", err, c.want)
			}
		})
	}
}

// TestAddressesAreApart checks that no two networks of a full lab overlap, and
// that each address lies in the network it belongs to.
func TestAddressesAreApart(t *testing.T) {
	lab, err := plan.New("x", plan.MaxClusters, plan.SingleNetwork, plan.DefaultKubernetes)
	if err != nil {
		t.Fatal(err)
	}
	var nets []netip.Prefix
	for _, c := range lab.Clusters {
		nets = append(nets, c.NodeNet(), c.PodCIDR(), c.ServiceCIDR())
		for _, ip := range append(c.LoadBalancerIPs(), c.NodeIP(), c.GatewayIP()) {
			if !c.NodeNet().Contains(ip) {
				t.Errorf("%s: %s is outside the node network %s", c.Name(), ip, c.NodeNet())
			}
		}
		for _, ip := range []netip.Addr{c.APIServiceIP(), c.DNSServiceIP()} {
			if !c.ServiceCIDR().Contains(ip) {
				t.Errorf("%s: %s is outside the service network %s", c.Name(), ip, c.ServiceCIDR())
			}
		}
	}
	for i, a := range nets {
		if a != a.Masked() || !a.Addr().IsPrivate() {
			t.Errorf("%s is no network of private addresses", a)
		}
		for _, b := range nets[:i] {
			if a.Overlaps(b) {
				t.Errorf("%s and %s overlap", a, b)
			}
		}
	}
}

// TestSameRanges holds that clusters can share the ranges of their pods and
// Services and keep nodes of their own, where no route leads to pods.
func TestSameRanges(t *testing.T) {
	lab, err := plan.New("x", 2, plan.MultiNetwork, plan.DefaultKubernetes)
	if err != nil {
		t.Fatal(err)
	}
	if lab.SameRanges() {
		t.Error("a lab shares ranges without having been asked to")
	}
	if err := lab.ShareRanges(); err != nil || !lab.SameRanges() {
		t.Fatalf("ranges are not shared: %v", err)
	}

	one, two := lab.Clusters[0], lab.Clusters[1]
	if one.PodCIDR() != two.PodCIDR() || one.ServiceCIDR() != two.ServiceCIDR() || one.DNSServiceIP() != two.DNSServiceIP() {
		t.Errorf("ranges differ: %v %v, %v %v", one.PodCIDR(), two.PodCIDR(), one.ServiceCIDR(), two.ServiceCIDR())
	}
	if one.NodeNet().Overlaps(two.NodeNet()) {
		t.Errorf("nodes share a network: %v, %v", one.NodeNet(), two.NodeNet())
	}

	flat, err := plan.New("x", 2, plan.SingleNetwork, plan.DefaultKubernetes)
	if err != nil {
		t.Fatal(err)
	}
	if err := flat.ShareRanges(); err == nil || !strings.Contains(err.Error(), "multi") {
		t.Errorf("the pods of a flat network share a range: %v", err)
	}
}

func TestClusterByName(t *testing.T) {
	lab, err := plan.New("x", 2, plan.MultiNetwork, plan.DefaultKubernetes)
	if err != nil {
		t.Fatal(err)
	}
	c, err := lab.Cluster("cluster-2")
	if err != nil || c.Index != 2 || c.Region() != "region-2" || c.Zone() != "region-2-a" {
		t.Fatalf("cluster-2 is %+v, %v", c, err)
	}
	if _, err := lab.Cluster("cluster-3"); err == nil || !strings.Contains(err.Error(), "cluster-1, cluster-2") {
		t.Fatalf("an unknown cluster gives %v, want the names of the known ones", err)
	}
}

func TestSaveAndLoad(t *testing.T) {
	p, err := plan.NewPaths(filepath.Join(t.TempDir(), "lab"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plan.Load(p); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("loading nothing gives %v", err)
	}
	lab, err := plan.New("x", 2, plan.SingleNetwork, plan.DefaultKubernetes)
	if err != nil {
		t.Fatal(err)
	}
	lab.Clusters[1].HostPort = 4711
	if err := plan.Save(p, lab); err != nil {
		t.Fatal(err)
	}
	got, err := plan.Load(p)
	if err != nil {
		t.Fatal(err)
	}
	if got.Network != plan.SingleNetwork || len(got.Clusters) != 2 || got.Clusters[1].HostPort != 4711 {
		t.Fatalf("loaded %+v", got)
	}
	if err := os.WriteFile(p.Spec(), []byte(`{"name":"x"`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := plan.Load(p); err == nil || !strings.Contains(err.Error(), "lab down") {
		t.Fatalf("a damaged file gives %v, want what to do", err)
	}
}

func TestLongStateDirectoryIsRefused(t *testing.T) {
	if _, err := plan.NewPaths("/" + strings.Repeat("x", 100)); err == nil {
		t.Fatal("a path that no Unix socket fits under is accepted")
	}
}
