package api

import (
	networking "istio.io/api/networking/v1alpha3"

	"google.golang.org/protobuf/proto"
)

// retryBudgetFields are those of a trafficPolicy's retryBudget.
var retryBudgetFields = fieldSet{"percent": nil, "minRetryConcurrency": nil}

func validateRetryBudget(p *problems, path string, b *networking.TrafficPolicy_RetryBudget) {
	if b == nil {
		return
	}
	if proto.Size(b) == 0 {
		p.addf(path, "is empty; set percent or minRetryConcurrency, or remove it")
	}
	if b.Percent != nil {
		p.checkPercent(path+".percent", b.Percent.Value)
	}
}
