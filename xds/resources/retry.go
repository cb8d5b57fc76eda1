package resources

import (
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	prioritiesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/model"
)

const (
	// defaultRetryOn and defaultRetries are what Istio gives every route that has
	// no policy of its own: only where the endpoint that failed has not worked on
	// the request.
	// Source: https://istio.io/latest/docs/concepts/traffic-management/#retries
	defaultRetryOn = "connect-failure,refused-stream,unavailable,cancelled"
	defaultRetries = 2

	// leavePrioritiesAfter attempts, and hostAttempts looks for an endpoint that
	// was not asked: Istio's numbers.
	leavePrioritiesAfter = 2
	hostAttempts         = 5
)

// retryPolicy is when proxies try a request again.
//
// Istio's predicate previous_hosts is left out where nobody asks for it. The
// built-in proxy never asks an endpoint twice for one request, and the predicate
// with its type is 120 bytes on each of a mesh's virtual hosts: with a thousand of
// them, 7 % of all that a proxy is sent at first and a quarter of what it is sent
// for a new host.
func retryPolicy(p *model.RetryPolicy) *routev3.RetryPolicy {
	switch {
	case p == nil:
		return &routev3.RetryPolicy{RetryOn: defaultRetryOn, NumRetries: wrapperspb.UInt32(defaultRetries)}
	case p.Attempts == 0:
		// Said, and not left out: without a policy, the built-in proxy asks
		// another endpoint where the first one was not reached.
		return &routev3.RetryPolicy{NumRetries: wrapperspb.UInt32(0)}
	}

	out := &routev3.RetryPolicy{
		RetryOn:              defaultRetryOn,
		NumRetries:           wrapperspb.UInt32(p.Attempts),
		RetriableStatusCodes: p.Statuses,
		PerTryTimeout:        optional(durationpb.New(p.PerTry), p.PerTry > 0),
	}
	if len(p.On) > 0 {
		out.RetryOn = strings.Join(p.On, ",")
	}
	if p.Backoff > 0 {
		out.RetryBackOff = &routev3.RetryPolicy_RetryBackOff{BaseInterval: durationpb.New(p.Backoff)}
	}
	if p.OtherEndpoints {
		out.HostSelectionRetryMaxAttempts = hostAttempts
		out.RetryHostPredicate = []*routev3.RetryPolicy_RetryHostPredicate{{
			Name: "envoy.retry_host_predicates.previous_hosts",
			ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{
				TypedConfig: pack(&hostsv3.PreviousHostsPredicate{}),
			},
		}}
	}
	if p.OtherPlaces {
		out.RetryPriority = &routev3.RetryPolicy_RetryPriority{
			Name: "envoy.retry_priorities.previous_priorities",
			ConfigType: &routev3.RetryPolicy_RetryPriority_TypedConfig{
				TypedConfig: pack(&prioritiesv3.PreviousPrioritiesConfig{UpdateFrequency: leavePrioritiesAfter}),
			},
		}
	}
	return out
}
