package config

import (
	"time"

	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Fault is envoy.extensions.filters.http.fault.v3.HTTPFault, as a route gives it: some
// of its requests are held up, some are answered with an error, some are both.
type Fault struct {
	Delay      time.Duration // 1 h at most
	DelayShare Share
	// AbortShare of the requests are answered with Status, or, where ByGRPC is set,
	// with 200 and GRPCStatus.
	AbortShare Share
	Status     int
	ByGRPC     bool
	GRPCStatus int
}

const (
	faultFilterName = "envoy.filters.http.fault"
	faultMessage    = "envoy.extensions.filters.http.fault.v3.HTTPFault"

	// maxFaultDelay bounds a delay: each request that is held up is kept here.
	maxFaultDelay = time.Hour
)

// decodeFilters reads what a route says to filters. Whether there is such a filter
// stands elsewhere; Envoy asks for nothing more than its name.
func (r *Route) decodeFilters(a at, list map[string]*anypb.Any) error {
	for name, body := range inOrder(list) {
		fa := a.in(name)
		switch {
		case name == faultFilterName && body.MessageName() == faultMessage:
			var err error
			if r.Fault, err = decodeFault(fa, body); err != nil {
				return err
			}
		case name == corsFilterName && body.MessageName() == corsPolicyOfOne:
			var err error
			if r.CORS, err = decodeCORS(fa, body); err != nil {
				return err
			}
		default:
			return fa.errorf("%s is not supported by this proxy", body.MessageName())
		}
	}
	return nil
}

// plain refuses settings of a filter that has none but on routes.
func (a at) plain(body *anypb.Any, m proto.Message) error {
	if err := a.unpack(body, m); err != nil {
		return err
	}
	return a.only(m)
}

func decodeFault(a at, body *anypb.Any) (*Fault, error) {
	p := &faultv3.HTTPFault{}
	if err := a.unpack(body, p); err != nil {
		return nil, err
	}
	if err := a.only(p, "delay", "abort"); err != nil {
		return nil, err
	}

	f := &Fault{}
	if err := f.decodeDelay(a.in("delay"), p); err != nil {
		return nil, err
	}
	if err := f.decodeAbort(a.in("abort"), p.GetAbort()); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *Fault) decodeDelay(a at, p *faultv3.HTTPFault) error {
	d := p.GetDelay()
	if d == nil {
		return nil
	}
	if err := a.only(d, "fixed_delay", "percentage"); err != nil {
		return err
	}

	var err error
	if f.Delay, err = a.in("fixed_delay").duration(d.GetFixedDelay(), 0); err != nil {
		return err
	}
	if f.Delay <= 0 || f.Delay > maxFaultDelay {
		return a.in("fixed_delay").errorf("%v is not above 0 and %v at most", f.Delay, maxFaultDelay)
	}
	f.DelayShare, err = a.in("percentage").shareOf(d.GetPercentage())
	return err
}

func (f *Fault) decodeAbort(a at, p *faultv3.FaultAbort) error {
	if p == nil {
		return nil
	}
	if err := a.only(p, "http_status", "grpc_status", "percentage"); err != nil {
		return err
	}

	switch e := p.GetErrorType().(type) {
	case *faultv3.FaultAbort_HttpStatus:
		if e.HttpStatus < 200 || e.HttpStatus > 599 {
			return a.in("http_status").errorf("%d is not a status from 200 to 599", e.HttpStatus)
		}
		f.Status = int(e.HttpStatus)
	case *faultv3.FaultAbort_GrpcStatus:
		if e.GrpcStatus > 16 {
			return a.in("grpc_status").errorf("%d is no status of gRPC", e.GrpcStatus)
		}
		f.ByGRPC, f.GRPCStatus = true, int(e.GrpcStatus)
	default:
		return a.errorf("says no status")
	}

	var err error
	f.AbortShare, err = a.in("percentage").shareOf(p.GetPercentage())
	return err
}
