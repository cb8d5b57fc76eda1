package outcome

import "testing"

// TestRetryLimit: beside another flag it stands where Envoy has it.
func TestRetryLimit(t *testing.T) {
	for f, want := range map[Flag]string{
		None:                            "-",
		UpstreamFailure:                 "UF",
		RetryLimit:                      "URX",
		UpstreamFailure | RetryLimit:    "UF,URX",
		UpstreamTerminated | RetryLimit: "UC,URX",
		UpstreamProtocol | RetryLimit:   "URX,UPE",
		DownstreamClosed | RetryLimit:   "DC,URX",
		DurationTimeout:                 "DT",
	} {
		if got := f.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
