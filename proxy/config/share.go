package config

import typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

// Share is a part of all requests, in millionths, the finest that Envoy draws
// (FractionalPercent).
type Share uint32

// Whole is the share of all requests.
const Whole Share = 1_000_000

// shareOf reads a fraction. More than all is all, as in Envoy.
func (a at) shareOf(p *typev3.FractionalPercent) (Share, error) {
	perUnit := uint64(0)
	switch p.GetDenominator() {
	case typev3.FractionalPercent_HUNDRED:
		perUnit = uint64(Whole) / 100
	case typev3.FractionalPercent_TEN_THOUSAND:
		perUnit = uint64(Whole) / 10_000
	case typev3.FractionalPercent_MILLION:
		perUnit = 1
	default:
		return 0, a.in("denominator").errorf("%v is not known to this proxy", p.GetDenominator())
	}
	return Share(min(uint64(p.GetNumerator())*perUnit, uint64(Whole))), nil
}
