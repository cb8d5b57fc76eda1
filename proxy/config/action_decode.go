package config

import (
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

func decodeAction(a at, p *routev3.RouteAction) (*RouteAction, error) {
	if err := a.only(p, "cluster", "weighted_clusters", "cluster_not_found_response_code",
		"prefix_rewrite", "host_rewrite_literal", "auto_host_rewrite", "timeout", "idle_timeout",
		"retry_policy", "priority", "max_grpc_timeout", "max_stream_duration"); err != nil {
		return nil, err
	}

	r := &RouteAction{
		Cluster: p.GetCluster(), PrefixRewrite: p.GetPrefixRewrite(), HostRewrite: p.GetHostRewriteLiteral(),
		AutoHost: p.GetAutoHostRewrite().GetValue(), Timeout: defaultRouteTimeout, IdleSet: p.GetIdleTimeout() != nil,
	}

	switch p.GetClusterNotFoundResponseCode() {
	case routev3.RouteAction_NOT_FOUND:
		r.NotFoundStatus = 404
	case routev3.RouteAction_INTERNAL_SERVER_ERROR:
		r.NotFoundStatus = 500
	default:
		r.NotFoundStatus = 503
	}

	if err := r.decodeWeighted(a.in("weighted_clusters"), p.GetWeightedClusters()); err != nil {
		return nil, err
	}
	if r.Cluster == "" && len(r.Weighted) == 0 {
		return nil, a.errorf("names no cluster")
	}

	if m := p.GetMaxStreamDuration(); m != nil {
		if err := a.in("max_stream_duration").only(m, "max_stream_duration", "grpc_timeout_header_max"); err != nil {
			return nil, err
		}
		if m.GetMaxStreamDuration().AsDuration() != 0 {
			return nil, a.in("max_stream_duration.max_stream_duration").errorf("is not supported by this proxy")
		}
	}

	if err := a.durations(
		durationField{"timeout", p.GetTimeout(), &r.Timeout},
		durationField{"idle_timeout", p.GetIdleTimeout(), &r.IdleTimeout}); err != nil {
		return nil, err
	}

	var err error
	r.Retry, err = decodeRetry(a.in("retry_policy"), p.GetRetryPolicy())
	return r, err
}

func (r *RouteAction) decodeWeighted(a at, p *routev3.WeightedCluster) error {
	if p == nil {
		return nil
	}
	if err := a.only(p, "clusters", "total_weight", "runtime_key_prefix"); err != nil {
		return err
	}

	total := uint32(0)
	for i, w := range p.GetClusters() {
		wa := a.index("clusters", i)
		if err := wa.only(w, "name", "weight"); err != nil {
			return err
		}
		if w.GetName() == "" {
			return wa.in("name").errorf("is empty")
		}

		if n := w.GetWeight().GetValue(); n > 0 {
			if total+n < total { // as Envoy refuses it, and a sum would wrap here
				return wa.in("weight").errorf("the weights together are above 2^32")
			}
			total += n
			r.Weighted = append(r.Weighted, WeightedCluster{w.GetName(), n})
		}
	}

	if len(r.Weighted) == 0 {
		return a.in("clusters").errorf("has no weight above 0")
	}
	return nil
}
