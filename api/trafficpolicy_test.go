package api

import (
	"strings"
	"testing"
)

// TestRefusesTrafficPolicies: what a trafficPolicy may not say, at any level, with
// the path of the field.
func TestRefusesTrafficPolicies(t *testing.T) {
	for name, c := range map[string]struct{ policy, want string }{
		"outlier, too short": {
			`{outlierDetection: {interval: 0s}}`,
			"outlierDetection.interval: 0s is too short; set 1ms or more",
		},
		"outlier, negative": {
			`{outlierDetection: {baseEjectionTime: -3s}}`,
			"outlierDetection.baseEjectionTime: -3s is too short",
		},
		"outlier, more than all": {
			`{outlierDetection: {maxEjectionPercent: 101}}`,
			"outlierDetection.maxEjectionPercent: 101 is no percentage",
		},
		"outlier, less than none healthy": {
			`{outlierDetection: {minHealthPercent: -1}}`,
			"outlierDetection.minHealthPercent: -1 is no percentage",
		},
		"outlier, old count below zero": {
			`{outlierDetection: {consecutiveErrors: -1}}`,
			"outlierDetection.consecutiveErrors: -1 is no count",
		},
		"outlier, local failures not told apart": {
			`{outlierDetection: {consecutiveLocalOriginFailures: 3}}`,
			"outlierDetection.consecutiveLocalOriginFailures: counts only with splitExternalLocalOriginErrors: true",
		},
		"pool, empty": {
			`{connectionPool: {}}`,
			"connectionPool: is empty",
		},
		"pool, counts below zero": {
			`{connectionPool: {tcp: {maxConnections: -1}}}`,
			"connectionPool.tcp.maxConnections: -1 is no count",
		},
		"pool, pending below zero": {
			`{connectionPool: {http: {http1MaxPendingRequests: -1}}}`,
			"connectionPool.http.http1MaxPendingRequests: -1 is no count",
		},
		"pool, more requests than may be": {
			`{connectionPool: {http: {maxRequestsPerConnection: 536870913}}}`,
			"connectionPool.http.maxRequestsPerConnection: 536870913 is too many",
		},
		"pool, no time to connect": {
			`{connectionPool: {tcp: {connectTimeout: 0s}}}`,
			"connectionPool.tcp.connectTimeout: 0s is too short; set 1ms or more",
		},
		"pool, connections that end at once": {
			`{connectionPool: {tcp: {maxConnectionDuration: 10us}}}`,
			"connectionPool.tcp.maxConnectionDuration: 10µs is too short",
		},
		"pool, silence below zero": {
			`{connectionPool: {tcp: {idleTimeout: -1s}}}`,
			"connectionPool.tcp.idleTimeout: -1s is too short; set 0s or more",
		},
		"pool, requests that are idle at once": {
			`{connectionPool: {http: {idleTimeout: 0s}}}`,
			"connectionPool.http.idleTimeout: 0s is too short",
		},
		"pool, upgrade": {
			`{connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}`,
			"connectionPool.http.h2UpgradePolicy: UPGRADE is not honoured: ",
		},
		"pool, PINGs without an end": {
			`{connectionPool: {http: {http2KeepAlive: {interval: 1s}}}}`,
			"connectionPool.http.http2KeepAlive.timeout: is missing",
		},
		"keepalive, more probes than the kernel sends": {
			`{connectionPool: {tcp: {tcpKeepalive: {probes: 128}}}}`,
			"connectionPool.tcp.tcpKeepalive.probes: 128 is too many; set 127 or less",
		},
		"keepalive, parts of a second": {
			`{connectionPool: {tcp: {tcpKeepalive: {time: 1500ms}}}}`,
			"connectionPool.tcp.tcpKeepalive.time: 1.5s: the kernel counts whole seconds",
		},
		"keepalive, longer than the kernel waits": {
			`{connectionPool: {tcp: {tcpKeepalive: {interval: 10h}}}}`,
			"connectionPool.tcp.tcpKeepalive.interval: 10h0m0s is too long; set 32767s or less",
		},
		"warmup without a time": {
			`{loadBalancer: {warmup: {aggression: 1}}}`,
			"loadBalancer.warmup.duration: is missing",
		},
		"warmup in two ways": {
			`{loadBalancer: {warmup: {duration: 1s}, warmupDurationSecs: 1s}}`,
			"loadBalancer.warmupDurationSecs: cannot stand beside warmup",
		},
		"warmup that begins above all": {
			`{loadBalancer: {warmup: {duration: 1s, minimumPercent: 100.5}}}`,
			"loadBalancer.warmup.minimumPercent: 100.5 is no percentage",
		},
		"warmup that stands still": {
			`{loadBalancer: {warmup: {duration: 1s, aggression: 0}}}`,
			"loadBalancer.warmup.aggression: 0: set a number above 0",
		},
		"warmup, not a number": {
			`{loadBalancer: {warmup: {duration: 1s, minimumPercent: NaN}}}`,
			"loadBalancer.warmup.minimumPercent: NaN is no percentage",
		},
		"warmup at random": {
			`{loadBalancer: {simple: RANDOM, warmup: {duration: 1s}}}`,
			"loadBalancer.warmup: cannot stand with simple: RANDOM",
		},
		"outlier, codes": {
			`{outlierDetection: {outlierDetectionHttpErrorCodes: [429]}}`,
			"outlierDetection.outlierDetectionHttpErrorCodes: is not honoured",
		},
	} {
		t.Run(name, func(t *testing.T) {
			for level, rule := range levels(c.policy) {
				_, err := decodeYAML(t, document("DestinationRule", rule))
				if want := level + c.want; err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want one with %q", err, want)
				}
			}
		})
	}
}

// levels are rules that say a policy for a host, for a port and for a subset, by
// the path of it.
func levels(policy string) map[string]string {
	port := `{portLevelSettings: [{port: {number: 80}, ` + strings.TrimPrefix(policy, "{") + `]}`
	return map[string]string{
		"spec.trafficPolicy.":                      `{host: a.b, trafficPolicy: ` + policy + `}`,
		"spec.trafficPolicy.portLevelSettings[0].": `{host: a.b, trafficPolicy: ` + port + `}`,
		"spec.subsets[0].trafficPolicy.":           `{host: a.b, subsets: [{name: v1, trafficPolicy: ` + policy + `}]}`,
	}
}

// TestTellsOfTrafficPolicies: what is taken and is not what its author may think.
func TestTellsOfTrafficPolicies(t *testing.T) {
	for name, c := range map[string]struct {
		policy string
		want   string // empty: nothing
	}{
		"old count": {
			`{outlierDetection: {consecutiveErrors: 7}}`,
			"outlierDetection.consecutiveErrors: is the old name: it counts as consecutiveGatewayErrors: 7",
		},
		"old count beside the new one": {
			`{outlierDetection: {consecutiveErrors: 7, consecutive5xxErrors: 3}}`,
			"outlierDetection.consecutiveErrors: changes nothing beside",
		},
		"pool, all fields": {
			`{connectionPool: {
				tcp: {maxConnections: 1, connectTimeout: 1ms, tcpKeepalive: {probes: 127, time: 32767s, interval: 1s}, maxConnectionDuration: 1h, idleTimeout: 0s},
				http: {http1MaxPendingRequests: 1, http2MaxRequests: 1, maxRequestsPerConnection: 536870912, maxRetries: 1, idleTimeout: 1ms,
					h2UpgradePolicy: DO_NOT_UPGRADE, useClientProtocol: true, maxConcurrentStreams: 1, http2KeepAlive: {interval: 1s, timeout: 1s}}}}`,
			"",
		},
		"warmup": {
			`{loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 1m, minimumPercent: 0, aggression: 1.5}}}`,
			"",
		},
		"warmup, as it was written before": {
			`{loadBalancer: {warmupDurationSecs: 45s}}`,
			"",
		},
		"outlier, all fields": {
			`{outlierDetection: {splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 3, consecutiveGatewayErrors: 2,
				consecutive5xxErrors: 4, interval: 1s, baseEjectionTime: 1m30s, maxEjectionPercent: 100, minHealthPercent: 50}}`,
			"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			for level, rule := range levels(c.policy) {
				obj, err := decodeYAML(t, document("DestinationRule", rule))
				if err != nil {
					t.Fatal(err)
				}
				got, want := "", ""
				for _, w := range Warnings(obj) {
					if !strings.HasPrefix(w, "spec.subsets: ") {
						got += w + "\n"
					}
				}
				if c.want != "" {
					want = level + c.want
				}
				if (want == "") != (got == "") || !strings.Contains(got, want) {
					t.Errorf("told %q, want %q", got, want)
				}
			}
		})
	}
}

// TestRetryBudgets: it stands beside the settings of ports, and not in them.
func TestRetryBudgets(t *testing.T) {
	for spec, want := range map[string]string{
		`{host: a.b, trafficPolicy: {retryBudget: {percent: 10.5, minRetryConcurrency: 1}}}`: "",
		`{host: a.b, trafficPolicy: {retryBudget: {}}}`:                                      "spec.trafficPolicy.retryBudget: is empty",
		`{host: a.b, trafficPolicy: {retryBudget: {percent: 200}}}`:                          "spec.trafficPolicy.retryBudget.percent: 200 is no percentage",
		`{host: a.b, trafficPolicy: {retryBudget: {budgetInterval: 1s}}}`:                    "spec.trafficPolicy.retryBudget.budgetInterval: is not honoured",
		`{host: a.b, subsets: [{name: v1, trafficPolicy: {retryBudget: {percent: -1}}}]}`:    "spec.subsets[0].trafficPolicy.retryBudget.percent: -1 is no percentage",
	} {
		_, err := decodeYAML(t, document("DestinationRule", spec))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", spec, err, want)
		}
	}
}

// TestLoadBalancerAnnotation: it is checked as a field is, and told of where it
// means nothing.
func TestLoadBalancerAnnotation(t *testing.T) {
	object := func(kind, value, spec string) string {
		return "kind: " + kind + "\nmetadata: {namespace: tenant, name: x, annotations: {isthmus.io/load-balancer: " + value + "}}\nspec: " + spec
	}
	for name, c := range map[string]struct{ object, refused, told string }{
		"alone": {
			object: object("DestinationRule", "peak-ewma", `{host: a.b}`),
		},
		"with what it refines": {
			object: object("DestinationRule", "peak-ewma", `{host: a.b, trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST, warmup: {duration: 1s}}}}`),
		},
		"not known": {
			object:  object("DestinationRule", "fastest", `{host: a.b}`),
			refused: `metadata.annotations[isthmus.io/load-balancer]: "fastest" is not known; set "peak-ewma"`,
		},
		"against the rule": {
			object:  object("DestinationRule", "peak-ewma", `{host: a.b, subsets: [{name: v1, trafficPolicy: {portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]}}]}`),
			refused: "peak-ewma contradicts spec.subsets[0].trafficPolicy.portLevelSettings[0].loadBalancer.simple: RANDOM",
		},
		"on another kind": {
			object: object("ServiceEntry", "peak-ewma", `{hosts: [x.example], ports: [{number: 80, name: http}]}`),
			told:   "metadata.annotations[isthmus.io/load-balancer]: changes nothing on a ServiceEntry",
		},
	} {
		t.Run(name, func(t *testing.T) {
			obj, err := decodeYAML(t, c.object)
			if (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
				t.Fatalf("error %v, want %q", err, c.refused)
			}
			if err != nil {
				return
			}
			if got := strings.Join(Warnings(obj), "\n"); got != "" && c.told == "" || !strings.Contains(got, c.told) {
				t.Errorf("told %q, want %q", got, c.told)
			}
		})
	}
}
