package config

import (
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// Mirror is envoy.config.route.v3.RouteAction.RequestMirrorPolicy: a share of a route's
// requests is sent to another cluster, too, whose answers nobody gets.
type Mirror struct {
	Cluster string
	Share   Share
	// KeepHost leaves the host as it is; else -shadow is appended to it.
	KeepHost bool
}

func decodeMirrors(a at, list []*routev3.RouteAction_RequestMirrorPolicy) ([]Mirror, error) {
	var out []Mirror
	for i, p := range list {
		m, err := decodeMirror(a.index("request_mirror_policies", i), p)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

func decodeMirror(a at, p *routev3.RouteAction_RequestMirrorPolicy) (Mirror, error) {
	m := Mirror{Cluster: p.GetCluster(), Share: Whole, KeepHost: p.GetDisableShadowHostSuffixAppend()}
	// Nothing is traced here, mirrors or others.
	if err := a.only(p, "cluster", "runtime_fraction", "trace_sampled", "disable_shadow_host_suffix_append"); err != nil {
		return m, err
	}
	if m.Cluster == "" {
		return m, a.in("cluster").errorf("is empty")
	}

	if f := p.GetRuntimeFraction(); f != nil {
		fa := a.in("runtime_fraction")
		// A key names a value of Envoy's runtime, which is not there.
		if err := fa.only(f, "default_value"); err != nil {
			return m, err
		}
		var err error
		if m.Share, err = fa.in("default_value").shareOf(f.GetDefaultValue()); err != nil {
			return m, err
		}
	}
	return m, nil
}
