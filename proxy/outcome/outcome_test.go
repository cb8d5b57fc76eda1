package outcome

import "testing"

// TestFlags: several stand in Envoy's order.
func TestFlags(t *testing.T) {
	for f, want := range map[Flag]string{
		None:                            "-",
		UpstreamFailure:                 "UF",
		RetryLimit:                      "URX",
		UpstreamFailure | RetryLimit:    "UF,URX",
		UpstreamTerminated | RetryLimit: "UC,URX",
		UpstreamProtocol | RetryLimit:   "URX,UPE",
		DownstreamClosed | RetryLimit:   "DC,URX",
		DurationTimeout:                 "DT",
		StreamIdle:                      "SI",
		StreamIdle | RetryLimit:         "URX,SI",

		DelayInjected:                                 "DI",
		FaultInjected:                                 "FI",
		DelayInjected | FaultInjected:                 "DI,FI",
		DelayInjected | DownstreamClosed:              "DI,DC",
		DelayInjected | NoCluster:                     "DI,NC",
		DelayInjected | StreamIdle:                    "DI,SI",
		UpstreamTimeout | DelayInjected:               "UT,DI",
		UpstreamFailure | DelayInjected | RetryLimit:  "UF,DI,URX",
		UpstreamProtocol | DelayInjected | RetryLimit: "DI,URX,UPE",
	} {
		if got := f.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
