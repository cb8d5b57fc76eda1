package resources

import (
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	commonfaultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/model"
)

const (
	corsFilter  = "envoy.filters.http.cors"
	faultFilter = "envoy.filters.http.fault"
)

// routeFilters are those that do nothing but for routes that say so. They stand in
// every list of filters in which routes of VirtualServices may be taken, so that no
// listener changes when a route begins to say so: connections would end.
func routeFilters() []*hcmv3.HttpFilter {
	// Preflights are answered before any fault, as in Istio.
	return []*hcmv3.HttpFilter{httpFilter(corsFilter, &corsv3.Cors{}), httpFilter(faultFilter, &faultv3.HTTPFault{})}
}

func httpFilter(name string, config proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(config)}}
}

// perFilter is what a route says to the filters; nil: nothing.
func perFilter(r *model.HTTPRoute) map[string]*anypb.Any {
	if len(r.Destinations) == 0 || r.Fault == nil && r.CORS == nil {
		return nil
	}
	out := map[string]*anypb.Any{}
	if r.Fault != nil {
		out[faultFilter] = pack(httpFault(r.Fault))
	}
	if r.CORS != nil {
		out[corsFilter] = pack(corsPolicy(r.CORS))
	}
	return out
}

func corsPolicy(c *model.CORSPolicy) *corsv3.CorsPolicy {
	out := &corsv3.CorsPolicy{
		AllowMethods: c.Methods, AllowHeaders: c.Headers, ExposeHeaders: c.Exposed,
		FilterEnabled: &corev3.RuntimeFractionalPercent{DefaultValue: &typev3.FractionalPercent{Numerator: 100}},

		ForwardNotMatchingPreflights: wrapperspb.Bool(!c.KeepPreflights),
	}
	for i := range c.Origins {
		out.AllowOriginStringMatch = append(out.AllowOriginStringMatch, stringMatcher(&c.Origins[i]))
	}
	if c.MaxAge >= 0 {
		out.MaxAge = strconv.FormatInt(int64(c.MaxAge/time.Second), 10)
	}
	if c.Credentials != nil {
		out.AllowCredentials = wrapperspb.Bool(*c.Credentials)
	}
	return out
}

func httpFault(f *model.HTTPFault) *faultv3.HTTPFault {
	out := &faultv3.HTTPFault{}
	if f.DelayShare > 0 {
		out.Delay = &commonfaultv3.FaultDelay{
			FaultDelaySecifier: &commonfaultv3.FaultDelay_FixedDelay{FixedDelay: durationpb.New(f.Delay)},
			Percentage:         fraction(f.DelayShare),
		}
	}
	if f.AbortShare > 0 {
		out.Abort = &faultv3.FaultAbort{
			ErrorType:  &faultv3.FaultAbort_HttpStatus{HttpStatus: f.Status},
			Percentage: fraction(f.AbortShare),
		}
		if f.ByGRPC {
			out.Abort.ErrorType = &faultv3.FaultAbort_GrpcStatus{GrpcStatus: f.GRPCStatus}
		}
	}
	return out
}

func fraction(s model.Share) *typev3.FractionalPercent {
	return &typev3.FractionalPercent{Numerator: uint32(s), Denominator: typev3.FractionalPercent_MILLION}
}
