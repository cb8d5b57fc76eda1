package config

import (
	"errors"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
)

// TestTheSameErrorEachTime: of several things that are wrong, one is named, and the
// same one however often the resource comes.
func TestTheSameErrorEachTime(t *testing.T) {
	for field, js := range map[string]string{
		"upstream_config": `{"name": "c", "type": "STATIC", "preconnect_policy": {}, "upstream_config": {"name": "x"}}`,
		"outlier_detection.enforcing_consecutive_5xx":    `{"name": "c", "type": "STATIC", "outlier_detection": {"enforcing_consecutive_gateway_failure": 7, "enforcing_consecutive_local_origin_failure": 7, "enforcing_consecutive_5xx": 7}}`,
		"outlier_detection.enforcing_failure_percentage": `{"name": "c", "type": "STATIC", "outlier_detection": {"enforcing_success_rate": 7, "enforcing_local_origin_success_rate": 7, "enforcing_failure_percentage_local_origin": 7, "enforcing_failure_percentage": 7}}`,
		"metadata.filter_metadata.isthmus.a":             `{"name": "c", "type": "STATIC", "metadata": {"filter_metadata": {"isthmus": {"a": 1, "b": 1, "c": 1, "d": 1}}}}`,
	} {
		t.Run(field, func(t *testing.T) {
			body := pack(t, &clusterv3.Cluster{}, js)
			for range 20 { // a map of four has no order
				_, err := DecodeCluster(body)
				var wrong *Error
				if !errors.As(err, &wrong) || wrong.Field != field {
					t.Fatalf("%v", err)
				}
			}
		})
	}
}
