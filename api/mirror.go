package api

import (
	networking "istio.io/api/networking/v1alpha3"
)

var (
	destinationFields = fieldSet{"host": nil, "subset": nil, "port": nil}
	percentFields     = fieldSet{"value": nil}
	mirrorFields      = fieldSet{"destination": destinationFields, "percentage": percentFields}
)

// maxMirrors bounds the copies of one request: each is as much work for the proxy as the
// request itself.
const maxMirrors = 16

// Mirrors are the mirrors of a route, however they are written: mirror, with a percentage
// beside it, is the older way to say mirrors
// (https://istio.io/latest/docs/reference/config/networking/virtual-service/#HTTPRoute).
// A percentage that is not given is nil, which is all requests.
func Mirrors(r *networking.HTTPRoute) []*networking.HTTPMirrorPolicy {
	if r.Mirror == nil {
		return r.Mirrors
	}
	share := r.MirrorPercentage
	if share == nil {
		//lint:ignore SA1019 people's manifests still say mirrorPercent
		if old := r.MirrorPercent; old != nil {
			share = &networking.Percent{Value: float64(old.Value)}
		}
	}
	return []*networking.HTTPMirrorPolicy{{Destination: r.Mirror, Percentage: share}}
}

// validateMirrors looks at mirror and mirrors.
func validateMirrors(p *problems, path string, r *networking.HTTPRoute) {
	validateOneMirror(p, path, r)
	for i, m := range r.Mirrors {
		at := indexed(path+".mirrors", i)
		if m.GetDestination() == nil {
			p.addf(at+".destination", "is missing; name a host")
		} else {
			validateDestination(p, at+".destination", m.Destination)
		}
		if m.GetPercentage() != nil {
			p.checkPercent(at+".percentage.value", m.Percentage.Value)
		}
	}

	if len(r.Mirrors) > maxMirrors {
		p.addf(path+".mirrors", "lists %d; %d are possible", len(r.Mirrors), maxMirrors)
	}
	if r.Mirror != nil && len(r.Mirrors) > 0 {
		p.addf(path+".mirror", "stands beside mirrors, of which only one can be; put it into mirrors")
	}
	if len(Mirrors(r)) > 0 && len(r.Route) == 0 && r.Delegate == nil {
		p.addf(path+"."+mirrorField(r), "has no effect on an answer that the proxy gives itself; remove it, or give route")
	}
}

// validateOneMirror looks at mirror and the percentages that belong to it.
func validateOneMirror(p *problems, path string, r *networking.HTTPRoute) {
	//lint:ignore SA1019 people's manifests still say mirrorPercent
	old := r.MirrorPercent
	var shares []string
	if r.MirrorPercentage != nil {
		shares = append(shares, "mirrorPercentage")
		p.checkPercent(path+".mirrorPercentage.value", r.MirrorPercentage.Value)
	}
	if old != nil {
		shares = append(shares, "mirrorPercent")
		if old.Value > 100 {
			p.addf(path+".mirrorPercent", "%d is no percentage; set 0 to 100", old.Value)
		}
	}

	switch {
	case r.Mirror != nil:
		validateDestination(p, path+".mirror", r.Mirror)
	case len(shares) > 0:
		p.addf(path+"."+shares[0], "is about mirror, which is not there; set mirror, or percentage within mirrors")
	}
	if len(shares) > 1 {
		p.addf(path+".mirrorPercent", "stands beside %s, which counts; remove it", shares[0])
	}
}

// mirrorField is where a route says its mirrors.
func mirrorField(r *networking.HTTPRoute) string {
	if r.Mirror != nil {
		return "mirror"
	}
	return "mirrors"
}
