package values

import (
	"strings"
	"testing"
)

// TestIdle: what is taken and changes nothing is told.
func TestIdle(t *testing.T) {
	for _, profile := range []string{"demo", "minimal", "empty"} {
		if got := resolve(t, Input{Sets: []string{"profile=" + profile}}).Warnings; len(got) > 0 {
			t.Errorf("profile %s warns of itself: %q", profile, got)
		}
	}
	for _, c := range []struct {
		sets []string
		want string
	}{
		{nil, ""},
		{[]string{"values.pilot.env.LOG_LEVEL=debug", "components.pilot.k8s.env[name:GOGC].value=90"}, ""},
		{[]string{"values.pilot.env.PILOT_ENABLE_EVERYTHING=true"}, "values.pilot.env.PILOT_ENABLE_EVERYTHING: discovery does not read it"},
		{[]string{"components.pilot.k8s.env[name:PILOT_TRACE_SAMPLING].value=1"}, "components.pilot.k8s.env[name:PILOT_TRACE_SAMPLING]: discovery does not read it"},
		{[]string{"meshConfig.accessLogFile=/dev/stdout", "meshConfig.connectTimeout=500ms", "meshConfig.outboundTrafficPolicy.mode=REGISTRY_ONLY"}, ""},
		{[]string{"meshConfig.h2UpgradePolicy=UPGRADE"}, "meshConfig.h2UpgradePolicy: is not honoured yet and changes nothing"},
		{[]string{"meshConfig.defaultConfig.interceptionMode=TPROXY"}, "meshConfig.defaultConfig.interceptionMode: is not honoured yet"},
		{[]string{"values.meshConfig.localityLbSetting.failoverPriority={topology.istio.io/network}"}, ""},
		{[]string{"values.meshConfig.localityLbSetting.failoverPriority={a,a}"}, `meshConfig.localityLbSetting.failoverPriority[1]: "a" is listed twice`},
		{[]string{"values.global.network=network1"}, ""},
	} {
		got := resolve(t, Input{Sets: c.sets}).Warnings
		if all := strings.Join(got, "\n"); !strings.Contains(all, c.want) || (c.want == "") != (all == "") {
			t.Errorf("%q: warnings %q, want %q", c.sets, got, c.want)
		}
	}
}
