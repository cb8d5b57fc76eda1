package config

import (
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previousv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
)

// retryConditions are the values of retry_on that the proxy carries out. It
// speaks no HTTP/3, so that its condition never comes true.
var retryConditions = map[string]bool{
	"connect-failure": true, "refused-stream": true, "unavailable": true, "cancelled": true,
	"retriable-status-codes": true, "gateway-error": true, "5xx": true, "reset": true,
	"reset-before-request": true, "retriable-4xx": true, "http3-post-connect-failure": true,
	"deadline-exceeded": true, "internal": true, "resource-exhausted": true,
}

// decodeRetry reads a retry policy. Retries always go to endpoints not tried
// yet, so the predicate previous_hosts is implied.
func decodeRetry(a at, p *routev3.RetryPolicy) (*RetryPolicy, error) {
	if p == nil {
		return nil, nil
	}
	if err := a.only(p, "retry_on", "num_retries", "per_try_timeout", "retry_host_predicate", "retry_priority",
		"host_selection_retry_max_attempts", "retriable_status_codes", "retry_back_off"); err != nil {
		return nil, err
	}

	r := &RetryPolicy{Attempts: orUint(p.GetNumRetries(), 1)}
	for i, h := range p.GetRetryHostPredicate() {
		if h.GetName() != "envoy.retry_host_predicates.previous_hosts" {
			return nil, a.index("retry_host_predicate", i).errorf("%q is not supported by this proxy", h.GetName())
		}
	}

	for _, on := range strings.Split(p.GetRetryOn(), ",") {
		on = strings.TrimSpace(on)
		if on == "" {
			continue
		}
		if !retryConditions[on] {
			return nil, a.in("retry_on").errorf("%q is not supported by this proxy", on)
		}
		r.On = append(r.On, on)
	}

	for i, s := range p.GetRetriableStatusCodes() {
		if s < 400 || s > 599 {
			return nil, a.index("retriable_status_codes", i).errorf("%d is not a status from 400 to 599", s)
		}
		r.Statuses = append(r.Statuses, int(s))
	}

	if err := r.decodeBackOff(a.in("retry_back_off"), p.GetRetryBackOff()); err != nil {
		return nil, err
	}
	if err := r.decodePriority(a.in("retry_priority"), p.GetRetryPriority()); err != nil {
		return nil, err
	}
	return r, a.durations(durationField{"per_try_timeout", p.GetPerTryTimeout(), &r.PerTryTimeout})
}

// decodeBackOff reads the pauses before retries; the longest one is ten times the
// first where nothing else is said (RetryPolicy.RetryBackOff).
func (r *RetryPolicy) decodeBackOff(a at, p *routev3.RetryPolicy_RetryBackOff) error {
	if p == nil {
		return nil
	}
	if err := a.only(p, "base_interval", "max_interval"); err != nil {
		return err
	}
	if err := a.durations(durationField{"base_interval", p.GetBaseInterval(), &r.BackOff}); err != nil {
		return err
	}
	if r.BackOff == 0 {
		return a.in("base_interval").errorf("is not above 0")
	}

	r.MaxBackOff = 10 * r.BackOff
	if err := a.durations(durationField{"max_interval", p.GetMaxInterval(), &r.MaxBackOff}); err != nil {
		return err
	}
	if r.MaxBackOff < r.BackOff {
		return a.in("max_interval").errorf("%v is below base_interval, %v", r.MaxBackOff, r.BackOff)
	}
	return nil
}

// decodePriority reads when a retry leaves the priorities that were tried.
func (r *RetryPolicy) decodePriority(a at, p *routev3.RetryPolicy_RetryPriority) error {
	if p == nil {
		return nil
	}
	if p.GetName() != "envoy.retry_priorities.previous_priorities" {
		return a.in("name").errorf("%q is not supported by this proxy", p.GetName())
	}

	ca := a.in("typed_config")
	c := &previousv3.PreviousPrioritiesConfig{}
	if err := ca.unpack(p.GetTypedConfig(), c); err != nil {
		return err
	}
	if err := ca.only(c, "update_frequency"); err != nil {
		return err
	}
	if c.GetUpdateFrequency() <= 0 {
		return ca.in("update_frequency").errorf("%d is not above 0", c.GetUpdateFrequency())
	}
	r.LeavePriorities = uint32(c.GetUpdateFrequency())
	return nil
}
