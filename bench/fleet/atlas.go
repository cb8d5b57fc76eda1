package fleet

import (
	"fmt"
	"sync"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/xds"
)

// kind is a resource type, as an index.
type kind int

const (
	clusters kind = iota
	endpoints
	listeners
	routes
	hosts // of routes, when the server sends them apart
	kinds
)

var typeURLs = [kinds]string{xds.TypeCluster, xds.TypeEndpoint, xds.TypeListener, xds.TypeRoute, xds.TypeVirtualHost}

func kindOf(typeURL []byte) (kind, error) {
	for k, u := range typeURLs {
		if string(typeURL) == u {
			return kind(k), nil
		}
	}
	return 0, fmt.Errorf("push of the type %q, which nobody asked for", typeURL)
}

// atlas is what all proxies share: numbers for the names and versions that
// were seen, and what each version of a cluster or listener refers to.
type atlas struct {
	mu      sync.RWMutex
	numbers map[string]int32
	strings []string
	refs    map[refKey][]int32
}

type refKey struct {
	kind          kind
	name, version int32
}

func newAtlas() *atlas {
	return &atlas{numbers: map[string]int32{}, refs: map[refKey][]int32{}}
}

func (a *atlas) number(s []byte) int32 {
	a.mu.RLock()
	n, ok := a.numbers[string(s)]
	a.mu.RUnlock()
	if ok {
		return n
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if n, ok := a.numbers[string(s)]; ok {
		return n
	}
	n = int32(len(a.strings))
	a.strings = append(a.strings, string(s))
	a.numbers[a.strings[n]] = n
	return n
}

func (a *atlas) string(n int32) string {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.strings[n]
}

// refersTo gives the names that a cluster (endpoints), a listener (routes) or a route
// configuration (its own, for virtual hosts apart) wants. Other kinds refer to nothing.
func (a *atlas) refersTo(key refKey, body []byte) ([]int32, error) {
	if key.kind.target() == key.kind {
		return nil, nil
	}
	a.mu.RLock()
	refs, ok := a.refs[key]
	a.mu.RUnlock()
	if ok {
		return refs, nil
	}
	var names []string
	var err error
	switch key.kind {
	case clusters:
		names, err = endpointsOf(body)
	case listeners:
		names, err = routesOf(body)
	default:
		names, err = hostsOf(body)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.string(key.name), err)
	}
	refs = make([]int32, 0, len(names))
	for _, n := range names {
		refs = append(refs, a.number([]byte(n)))
	}
	a.mu.Lock()
	a.refs[key] = refs
	a.mu.Unlock()
	return refs, nil
}

func endpointsOf(body []byte) ([]string, error) {
	var c clusterv3.Cluster
	if err := proto.Unmarshal(body, &c); err != nil {
		return nil, err
	}
	if c.GetType() != clusterv3.Cluster_EDS {
		return nil, nil
	}
	if n := c.GetEdsClusterConfig().GetServiceName(); n != "" {
		return []string{n}, nil
	}
	return []string{c.GetName()}, nil
}

func routesOf(body []byte) ([]string, error) {
	var l listenerv3.Listener
	if err := proto.Unmarshal(body, &l); err != nil {
		return nil, err
	}
	var names []string
	chains := l.GetFilterChains()
	if d := l.GetDefaultFilterChain(); d != nil {
		chains = append(chains, d)
	}
	for _, chain := range chains {
		for _, f := range chain.GetFilters() {
			any := f.GetTypedConfig()
			var hcm hcmv3.HttpConnectionManager
			if !any.MessageIs(&hcm) {
				continue
			}
			if err := any.UnmarshalTo(&hcm); err != nil {
				return nil, err
			}
			if n := hcm.GetRds().GetRouteConfigName(); n != "" {
				names = append(names, n)
			}
		}
	}
	return names, nil
}

func hostsOf(body []byte) ([]string, error) {
	var r routev3.RouteConfiguration
	if err := proto.Unmarshal(body, &r); err != nil {
		return nil, err
	}
	if r.GetVhds() == nil {
		return nil, nil
	}
	return []string{r.GetName()}, nil
}
