package resources

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/model"
)

func lbPolicy(lb model.LoadBalancing, hash *model.ConsistentHash) clusterv3.Cluster_LbPolicy {
	switch {
	case hash != nil && hash.Maglev:
		return clusterv3.Cluster_MAGLEV
	case hash != nil:
		return clusterv3.Cluster_RING_HASH
	}

	switch lb {
	case model.LBRoundRobin:
		return clusterv3.Cluster_ROUND_ROBIN
	case model.LBRandom:
		return clusterv3.Cluster_RANDOM
	}
	return clusterv3.Cluster_LEAST_REQUEST
}

// balance sets how load is shared between endpoints, beside the policy. A cluster
// without endpoints of its own has nothing to share.
func balance(c *clusterv3.Cluster, pol model.TrafficPolicy) {
	start := slowStart(pol.Warmup)
	switch c.LbPolicy {
	case clusterv3.Cluster_RING_HASH, clusterv3.Cluster_MAGLEV:
		hashTable(c, pol.Hash)
	case clusterv3.Cluster_LEAST_REQUEST:
		if pol.LoadBalancing == model.LBPeakEWMA {
			// Envoy has peak EWMA as an extension that builds may lack, and
			// refuses a cluster with one that it does not know. So the cluster
			// asks for least request, and the built-in proxy for more.
			c.Metadata.FilterMetadata["isthmus"] = &structpb.Struct{Fields: map[string]*structpb.Value{
				"peak_ewma": structpb.NewBoolValue(true),
			}}
		}
		if start != nil {
			c.LbConfig = &clusterv3.Cluster_LeastRequestLbConfig_{
				LeastRequestLbConfig: &clusterv3.Cluster_LeastRequestLbConfig{SlowStartConfig: start},
			}
		}
	case clusterv3.Cluster_ROUND_ROBIN:
		if start != nil {
			c.LbConfig = &clusterv3.Cluster_RoundRobinLbConfig_{
				RoundRobinLbConfig: &clusterv3.Cluster_RoundRobinLbConfig{SlowStartConfig: start},
			}
		}
	}
}

// slowStart is how an endpoint that is new comes to its share (Istio's warmup).
func slowStart(w *model.Warmup) *clusterv3.Cluster_SlowStartConfig {
	if w == nil {
		return nil
	}
	out := &clusterv3.Cluster_SlowStartConfig{SlowStartWindow: durationpb.New(w.Window)}
	if w.MinPercent != nil {
		out.MinWeightPercent = &typev3.Percent{Value: *w.MinPercent}
	}
	if w.Aggression != nil {
		// Envoy wants a key of its runtime, by which an operator of it could
		// set another value.
		out.Aggression = &corev3.RuntimeDouble{DefaultValue: *w.Aggression, RuntimeKey: "isthmus.warmup.aggression"}
	}
	return out
}
