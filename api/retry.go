package api

import (
	"slices"
	"strconv"
	"strings"
	"time"

	meshconfig "istio.io/api/mesh/v1alpha1"
)

// RetryConditions are those of Envoy that proxies carry out (x-envoy-retry-on,
// x-envoy-retry-grpc-on).
func RetryConditions() []string {
	return []string{
		"5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "refused-stream",
		"retriable-4xx", "retriable-status-codes", "http3-post-connect-failure",
		"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable",
	}
}

// RetryOn reads a retryOn: conditions and statuses, with commas between them. What
// is neither is left out, and told of.
func RetryOn(text string) (conditions []string, statuses []uint32, wrong []string) {
	const codes = "retriable-status-codes"
	for on := range strings.SplitSeq(text, ",") {
		on = strings.TrimSpace(on)
		status, err := strconv.ParseUint(on, 10, 32)
		switch {
		case on == "":
		case err == nil && status >= 400 && status <= 599:
			statuses = append(statuses, uint32(status))
		case err == nil:
			wrong = append(wrong, on+" is no status from 400 to 599")
		case on == "envoy-ratelimited", on == "retriable-headers":
			wrong = append(wrong, on+" is not honoured")
		case !slices.Contains(RetryConditions(), on):
			wrong = append(wrong, strconv.Quote(on)+" is no condition (there are statuses, "+strings.Join(RetryConditions(), ", ")+")")
		case !slices.Contains(conditions, on):
			conditions = append(conditions, on)
		}
	}
	if len(statuses) > 0 && !slices.Contains(conditions, codes) {
		conditions = append(conditions, codes)
	}
	return conditions, statuses, wrong
}

// settleRetries takes out of a defaultHttpRetryPolicy what cannot hold, and tells of
// it.
func settleRetries(mc *meshconfig.MeshConfig) []string {
	const path = "defaultHttpRetryPolicy"
	r := mc.DefaultHttpRetryPolicy
	if r == nil {
		return nil
	}

	var told problems
	if r.Attempts < 0 {
		told.addf(path+".attempts", "%d is no count; it counts as 0, and no request is tried again", r.Attempts)
		r.Attempts = 0
	}
	before := len(told)
	told.checkDuration(path+".perTryTimeout", r.PerTryTimeout, time.Millisecond)
	if len(told) > before {
		r.PerTryTimeout = nil
	}
	before = len(told)
	told.checkDuration(path+".backoff", r.Backoff, time.Millisecond)
	if len(told) > before {
		r.Backoff = nil
	}

	if _, _, wrong := RetryOn(r.RetryOn); len(wrong) > 0 {
		told.addf(path+".retryOn", "left out: %s", strings.Join(wrong, "; "))
	}
	if r.Attempts == 0 && (r.RetryOn != "" || r.PerTryTimeout != nil || r.Backoff != nil) {
		told.addf(path+".attempts", "is 0 or missing, so that no request is tried again and the rest changes nothing; set it (2 is what holds without a policy)")
	}
	if p := r.RetryIgnorePreviousHosts; p != nil && !p.Value {
		told.addf(path+".retryIgnorePreviousHosts", "false changes nothing: sidecars ask no endpoint twice for one request")
	}
	return told
}

// settleConnections takes out what cannot hold for all connections of the mesh, and
// tells of it.
func settleConnections(mc *meshconfig.MeshConfig) []string {
	var told problems
	told.checkDuration("connectTimeout", mc.ConnectTimeout, time.Millisecond)
	if len(told) > 0 {
		mc.ConnectTimeout = nil
	}
	before := len(told)
	validateKeepalive(&told, "tcpKeepalive", mc.TcpKeepalive)
	if len(told) > before {
		mc.TcpKeepalive = nil
	}
	return told
}
