package mesh

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/isthmus-mesh/isthmus/model"
)

// FarCluster is another cluster, which only scenes with Far have. Nobody names its
// network.
const FarCluster = "far"

// The one cluster and network that every scene has.
const (
	Cluster = "Kubernetes"
	Network = "network1"
	Region  = "region-1"
	Zone    = "region-1-a"
)

// Scene is a mesh: the services and pods that a measurement talks to, and others
// that make it as large as it shall be.
type Scene struct {
	// Services are made up, with Endpoints each, all injected.
	Services, Endpoints int
	Named               []Service
	Pods                []Pod
	Gateways            []Gateway
	Entries             []Entry
	Far                 []Far
	// Strict refuses what is not mutual TLS, in all namespaces.
	Strict bool
}

// Service is a service with an address, behind which pods stand.
type Service struct {
	Name, Namespace string
	VIP             netip.Addr
	Ports           []Port
	// Pods are names of pods of the same namespace.
	Pods []string
}

// Port is a port of a service, and of its pods.
type Port struct {
	Name     string
	Number   uint16
	Protocol model.Protocol
}

// Pod is a workload.
type Pod struct {
	Name, Namespace, Account string
	Addr                     netip.Addr
	Labels                   map[string]string
	// Injected pods have a proxy.
	Injected bool
	// Far pods are of FarCluster, and in no network.
	Far bool
}

// Far is a service of FarCluster alone, whose pods are in a network of their own
// that a gateway leads into.
type Far struct {
	Service Service
	Network string
	Gateway netip.AddrPort
}

// Gateway passes TLS through by its SNI.
type Gateway struct {
	Name, Namespace string
	Selector        map[string]string
	Port            uint16
	Hosts           []string
}

// Entry is a ServiceEntry for a service of another cluster, which is reached
// over mutual TLS at one address.
type Entry struct {
	Host     string
	VIP      netip.Addr
	Port     Port
	Endpoint netip.AddrPort
}

// Host is the service's fully qualified name.
func (s *Service) Host() string { return s.Name + "." + s.Namespace + ".svc.cluster.local" }

// made is a service that is made up, by its number.
func made(i int) Service {
	return Service{
		Name: fmt.Sprintf("svc-%05d", i), Namespace: fmt.Sprintf("team-%02d", i%20),
		VIP:   netip.AddrFrom4([4]byte{10, 112, byte(i >> 8), byte(i)}),
		Ports: []Port{{Name: "http", Number: 80, Protocol: model.HTTP}},
	}
}

// madeAddr is the address of a pod that is made up. generation changes it when
// the pod is replaced.
func madeAddr(service, endpoint, generation int) netip.Addr {
	n := service<<5 | endpoint
	return netip.AddrFrom4([4]byte{byte(128 + generation%64), byte(n >> 16), byte(n >> 8), byte(n)})
}

// EndpointsName is the name under which the endpoints of the made-up service
// are sent.
func EndpointsName(i int) string {
	s := made(i)
	return fmt.Sprintf("outbound|%d||%s", s.Ports[0].Number, s.Host())
}

var created = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

func (s *Service) row() *model.Service {
	row := &model.Service{
		Host: s.Host(), Cluster: Cluster, Namespace: s.Namespace, Name: s.Name, Created: created,
		Addresses: []netip.Prefix{netip.PrefixFrom(s.VIP, s.VIP.BitLen())},
		Selector:  s.selector(),
	}
	for _, p := range s.Ports {
		row.Ports = append(row.Ports, model.Port{Name: p.Name, Number: p.Number, Protocol: p.Protocol, Target: p.Number})
	}
	return row
}

func (s *Service) selector() map[string]string { return map[string]string{"app": s.Name} }

func (s *Service) targets() map[string]uint16 {
	m := map[string]uint16{}
	for _, p := range s.Ports {
		m[p.Name] = p.Number
	}
	return m
}

// endpointRow is one pod as a client sees it.
func endpointRow(addr netip.Addr, ports map[string]uint16, namespace, account, workload string, tls bool) model.Endpoint {
	return model.Endpoint{
		Address: addr.String(), Ports: ports, Network: Network, Locality: model.MakeLocality(Region, Zone, ""),
		TLS: tls, Account: namespace + "/" + account,
		Workload: fmt.Sprintf("%s;%s;%s;latest;%s", workload, namespace, workload, Cluster),
	}
}

func endpointSet(svc *Service, list []model.Endpoint) *model.EndpointSet {
	return &model.EndpointSet{Host: svc.Host(), Cluster: Cluster, Namespace: svc.Namespace, Name: svc.Name, Endpoints: list}
}

// madeSet is the endpoints of a made-up service; generations tells how often
// each was replaced.
func (s *Scene) madeSet(i int, generations []int) *model.EndpointSet {
	svc := made(i)
	ports := map[string]uint16{"http": 8080}
	list := make([]model.Endpoint, 0, s.Endpoints)
	for e := range s.Endpoints {
		g := 0
		if generations != nil {
			g = generations[e]
		}
		list = append(list, endpointRow(madeAddr(i, e, g), ports, svc.Namespace, svc.Name, svc.Name, true))
	}
	sortEndpoints(list)
	return endpointSet(&svc, list)
}
