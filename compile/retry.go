package compile

import (
	networking "istio.io/api/networking/v1alpha3"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/model"
)

// retryPolicy makes a retry policy out of one that package api has settled.
func retryPolicy(r *networking.HTTPRetry) *model.RetryPolicy {
	if r == nil {
		return nil
	}
	on, statuses, _ := api.RetryOn(r.RetryOn)
	return &model.RetryPolicy{
		Attempts:       uint32(r.Attempts),
		On:             on,
		Statuses:       statuses,
		PerTry:         r.PerTryTimeout.AsDuration(),
		Backoff:        r.Backoff.AsDuration(),
		OtherPlaces:    r.GetRetryRemoteLocalities().GetValue(),
		OtherEndpoints: r.GetRetryIgnorePreviousHosts().GetValue(),
	}
}
