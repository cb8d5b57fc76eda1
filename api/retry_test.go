package api

import (
	"strings"
	"testing"
)

// TestMeshRetriesAndConnections: what of MeshConfig cannot hold is taken out and
// told of by its path, and the rest holds.
func TestMeshRetriesAndConnections(t *testing.T) {
	for name, c := range map[string]struct{ text, told, kept string }{
		"all of a retry policy": {
			text: `defaultHttpRetryPolicy: {attempts: 3, perTryTimeout: 2s, retryOn: "5xx,409, unavailable", backoff: 30ms, retryRemoteLocalities: true, retryIgnorePreviousHosts: true}`,
			kept: `attempts:3 per_try_timeout:{seconds:2} retry_on:"5xx,409, unavailable" retry_remote_localities:{value:true} retry_ignore_previous_hosts:{value:true} backoff:{nanos:30000000}`,
		},
		"none": {
			text: `defaultHttpRetryPolicy: {attempts: 0}`,
		},
		"a count below zero": {
			text: `defaultHttpRetryPolicy: {attempts: -1}`,
			told: "defaultHttpRetryPolicy.attempts: -1 is no count; it counts as 0",
		},
		"conditions without a count": {
			text: `defaultHttpRetryPolicy: {retryOn: 5xx}`,
			told: "defaultHttpRetryPolicy.attempts: is 0 or missing, so that no request is tried again",
			kept: `retry_on:"5xx"`,
		},
		"no condition": {
			text: `defaultHttpRetryPolicy: {attempts: 1, retryOn: "5xx,sometimes"}`,
			told: `defaultHttpRetryPolicy.retryOn: left out: "sometimes" is no condition`,
			kept: `attempts:1 retry_on:"5xx,sometimes"`,
		},
		"a condition that proxies lack": {
			text: `defaultHttpRetryPolicy: {attempts: 1, retryOn: "envoy-ratelimited"}`,
			told: "defaultHttpRetryPolicy.retryOn: left out: envoy-ratelimited is not honoured",
			kept: `attempts:1 retry_on:"envoy-ratelimited"`,
		},
		"a status of success": {
			text: `defaultHttpRetryPolicy: {attempts: 1, retryOn: "200"}`,
			told: "defaultHttpRetryPolicy.retryOn: left out: 200 is no status from 400 to 599",
			kept: `attempts:1 retry_on:"200"`,
		},
		"times that are none": {
			text: `defaultHttpRetryPolicy: {attempts: 1, perTryTimeout: 0s, backoff: -1s}`,
			told: "defaultHttpRetryPolicy.backoff: -1s is too short; set 1ms or more\ndefaultHttpRetryPolicy.perTryTimeout: 0s is too short",
			kept: `attempts:1`,
		},
		"one that does not decode": {
			text: `defaultHttpRetryPolicy: {attempts: 1, perTryTimeout: soon}`,
			told: "defaultHttpRetryPolicy.perTryTimeout: left out",
			kept: `attempts:1`,
		},
		"the same endpoint again": {
			text: `defaultHttpRetryPolicy: {attempts: 1, retryIgnorePreviousHosts: false}`,
			told: "defaultHttpRetryPolicy.retryIgnorePreviousHosts: false changes nothing",
			kept: `attempts:1 retry_ignore_previous_hosts:{}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			mc, warnings, err := LoadMeshConfig(c.text)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(warnings, "\n")
			if (c.told == "") != (got == "") || !strings.Contains(got, c.told) {
				t.Errorf("told %q, want %q", got, c.told)
			}
			// The text of a message has spaces at random.
			kept := strings.Join(strings.Fields(mc.DefaultHttpRetryPolicy.String()), " ")
			if kept != c.kept {
				t.Errorf("kept %s, want %s", kept, c.kept)
			}
		})
	}
}

func TestMeshConnectTimeoutAndKeepalive(t *testing.T) {
	mc, warnings, err := LoadMeshConfig("connectTimeout: 0s\ntcpKeepalive: {time: 100ms, probes: 3}")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(warnings, "\n"); !strings.Contains(got, "connectTimeout: 0s is too short") || !strings.Contains(got, "tcpKeepalive.time: 100ms is too short") {
		t.Errorf("told %q", got)
	}
	if mc.ConnectTimeout != nil || mc.TcpKeepalive != nil {
		t.Errorf("kept connectTimeout %v, tcpKeepalive %v", mc.ConnectTimeout, mc.TcpKeepalive)
	}

	mc, warnings, err = LoadMeshConfig("connectTimeout: 3s\ntcpKeepalive: {time: 10s, interval: 1s, probes: 3}")
	if err != nil || len(warnings) > 0 {
		t.Fatal(warnings, err)
	}
	if mc.ConnectTimeout.GetSeconds() != 3 || mc.TcpKeepalive.GetProbes() != 3 {
		t.Errorf("kept connectTimeout %v, tcpKeepalive %v", mc.ConnectTimeout, mc.TcpKeepalive)
	}
}
