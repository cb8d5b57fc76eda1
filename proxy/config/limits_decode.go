package config

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	// Envoy's defaults of RetryBudget.
	defaultBudgetPercent  = 20
	defaultMinConcurrency = 3
	// defaultPanicPercent is Envoy's healthy_panic_threshold.
	defaultPanicPercent = 50
	// defaultMinPercent is Envoy's min_weight_percent of slow start.
	defaultMinPercent = 10
)

// decodeLimits reads the circuit breakers. Only the default priority's count: no
// request has another one here.
func (c *Cluster) decodeLimits(a at, p *clusterv3.Cluster) error {
	cb := p.GetCircuitBreakers()
	if cb == nil {
		return nil
	}

	ca := a.in("circuit_breakers")
	if err := ca.only(cb, "thresholds"); err != nil {
		return err
	}

	for i, t := range cb.GetThresholds() {
		ta := ca.index("thresholds", i)
		if err := ta.only(t, "priority", "max_connections", "max_pending_requests", "max_requests",
			"max_retries", "retry_budget", "track_remaining"); err != nil {
			return err
		}
		switch {
		case t.GetPriority() != corev3.RoutingPriority_DEFAULT:
			return ta.in("priority").errorf("%v is not supported by this proxy", t.GetPriority())
		case c.Limits != nil:
			return ta.errorf("is there for the same priority as another one")
		}

		c.Limits = &Limits{
			Connections: orUint(t.GetMaxConnections(), NoLimit), Pending: orUint(t.GetMaxPendingRequests(), NoLimit),
			Requests: orUint(t.GetMaxRequests(), NoLimit), Retries: orUint(t.GetMaxRetries(), NoLimit),
		}
		var err error
		if c.Limits.Budget, err = decodeBudget(ta.in("retry_budget"), t.GetRetryBudget()); err != nil {
			return err
		}
	}

	if l := c.Limits; l != nil && *l == (Limits{NoLimit, NoLimit, NoLimit, NoLimit, nil}) {
		c.Limits = nil // nothing needs to be counted
	}
	return nil
}

func decodeBudget(a at, p *clusterv3.CircuitBreakers_Thresholds_RetryBudget) (*RetryBudget, error) {
	if p == nil {
		return nil, nil
	}
	if err := a.only(p, "budget_percent", "min_retry_concurrency"); err != nil {
		return nil, err
	}
	percent, err := decodePercent(a.in("budget_percent"), p.GetBudgetPercent(), defaultBudgetPercent)
	if err != nil {
		return nil, err
	}
	return &RetryBudget{Percent: percent, MinConcurrency: orUint(p.GetMinRetryConcurrency(), defaultMinConcurrency)}, nil
}

func decodePercent(a at, p *typev3.Percent, def float64) (float64, error) {
	if p == nil {
		return def, nil
	}
	if v := p.GetValue(); !(v >= 0 && v <= 100) { // so that NaN is refused, too
		return 0, a.errorf("%v is not a percentage from 0 to 100", v)
	}
	return p.GetValue(), nil
}

// decodeBalance reads how load is shared. Endpoints that only this proxy's own
// defaults leave out bring no panic unless it is asked for; where discovery sets
// when endpoints are left out, Envoy's threshold holds.
func (c *Cluster) decodeBalance(a at, p *clusterv3.Cluster) error {
	if p.GetOutlierDetection() != nil {
		c.Balance.PanicPercent = defaultPanicPercent
	}
	if err := c.Balance.decodeCommon(a.in("common_lb_config"), p.GetCommonLbConfig()); err != nil {
		return err
	}

	var err error
	switch l := p.GetLbConfig().(type) {
	case *clusterv3.Cluster_LeastRequestLbConfig_:
		la := a.in("least_request_lb_config")
		if err := la.only(l.LeastRequestLbConfig, "choice_count", "slow_start_config"); err != nil {
			return err
		}
		if n := l.LeastRequestLbConfig.GetChoiceCount(); n != nil && n.GetValue() != 2 {
			return la.in("choice_count").errorf("%d: only 2 is supported by this proxy", n.GetValue())
		}
		c.Balance.SlowStart, err = decodeSlowStart(la.in("slow_start_config"), l.LeastRequestLbConfig.GetSlowStartConfig())
	case *clusterv3.Cluster_RoundRobinLbConfig_:
		ra := a.in("round_robin_lb_config")
		if err := ra.only(l.RoundRobinLbConfig, "slow_start_config"); err != nil {
			return err
		}
		c.Balance.SlowStart, err = decodeSlowStart(ra.in("slow_start_config"), l.RoundRobinLbConfig.GetSlowStartConfig())
	}
	if err != nil {
		return err
	}

	ma := a.in("metadata.filter_metadata." + ownMetadata)
	for field, v := range inOrder(p.GetMetadata().GetFilterMetadata()[ownMetadata].GetFields()) {
		if field != "peak_ewma" || !v.GetBoolValue() {
			return ma.in(field).errorf("%v is not supported by this proxy", v.AsInterface())
		}
		c.Balance.PeakEWMA = true
	}
	return nil
}

func (b *Balance) decodeCommon(a at, p *clusterv3.Cluster_CommonLbConfig) error {
	if p == nil {
		return nil
	}
	if err := a.only(p, "healthy_panic_threshold", "locality_weighted_lb_config", "update_merge_window",
		"ignore_new_hosts_until_first_hc", "close_connections_on_host_set_change"); err != nil {
		return err
	}
	b.LocalityWeights = p.GetLocalityWeightedLbConfig() != nil
	var err error
	b.PanicPercent, err = decodePercent(a.in("healthy_panic_threshold"), p.GetHealthyPanicThreshold(), b.PanicPercent)
	return err
}

func decodeSlowStart(a at, p *clusterv3.Cluster_SlowStartConfig) (*SlowStart, error) {
	if p == nil {
		return nil, nil
	}
	if err := a.only(p, "slow_start_window", "aggression", "min_weight_percent"); err != nil {
		return nil, err
	}

	s := &SlowStart{Aggression: 1}
	if err := a.durations(durationField{"slow_start_window", p.GetSlowStartWindow(), &s.Window}); err != nil {
		return nil, err
	}
	if g := p.GetAggression(); g != nil {
		// The key names a value of Envoy's runtime, which is not there.
		s.Aggression = g.GetDefaultValue()
		if !(s.Aggression > 0) {
			return nil, a.in("aggression.default_value").errorf("%v is not above 0", s.Aggression)
		}
	}

	var err error
	s.MinPercent, err = decodePercent(a.in("min_weight_percent"), p.GetMinWeightPercent(), defaultMinPercent)
	if err != nil || s.Window == 0 {
		return nil, err
	}
	return s, nil
}

func orUint(v *wrapperspb.UInt32Value, def uint32) uint32 {
	if v == nil {
		return def
	}
	return v.GetValue()
}
