package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

func decodeAction(a at, p *routev3.RouteAction) (*RouteAction, error) {
	if err := a.only(p, "cluster", "weighted_clusters", "cluster_not_found_response_code",
		"prefix_rewrite", "regex_rewrite", "host_rewrite_literal", "auto_host_rewrite", "timeout", "idle_timeout",
		"retry_policy", "hash_policy", "priority", "max_grpc_timeout", "max_stream_duration",
		"request_mirror_policies"); err != nil {
		return nil, err
	}

	r := &RouteAction{
		Cluster: p.GetCluster(), PrefixRewrite: p.GetPrefixRewrite(), HostRewrite: p.GetHostRewriteLiteral(),
		AutoHost: p.GetAutoHostRewrite().GetValue(), Timeout: defaultRouteTimeout, IdleSet: p.GetIdleTimeout() != nil,
	}

	switch p.GetClusterNotFoundResponseCode() {
	case routev3.RouteAction_NOT_FOUND:
		r.NotFoundStatus = 404
	case routev3.RouteAction_INTERNAL_SERVER_ERROR:
		r.NotFoundStatus = 500
	default:
		r.NotFoundStatus = 503
	}

	if err := a.oneLine(textField{"prefix_rewrite", r.PrefixRewrite}, textField{"host_rewrite_literal", r.HostRewrite}); err != nil {
		return nil, err
	}
	if err := r.decodeWeighted(a.in("weighted_clusters"), p.GetWeightedClusters()); err != nil {
		return nil, err
	}
	if r.Cluster == "" && len(r.Weighted) == 0 {
		return nil, a.errorf("names no cluster")
	}

	if m := p.GetMaxStreamDuration(); m != nil {
		if err := a.in("max_stream_duration").only(m, "max_stream_duration", "grpc_timeout_header_max"); err != nil {
			return nil, err
		}
		if m.GetMaxStreamDuration().AsDuration() != 0 {
			return nil, a.in("max_stream_duration.max_stream_duration").errorf("is not supported by this proxy")
		}
	}

	if err := a.durations(
		durationField{"timeout", p.GetTimeout(), &r.Timeout},
		durationField{"idle_timeout", p.GetIdleTimeout(), &r.IdleTimeout}); err != nil {
		return nil, err
	}

	var err error
	if r.RegexRewrite, err = decodeRegexRewrite(a.in("regex_rewrite"), p.GetRegexRewrite()); err != nil {
		return nil, err
	}
	if r.Hash, err = decodeHashPolicies(a, p.GetHashPolicy()); err != nil {
		return nil, err
	}
	if r.Mirrors, err = decodeMirrors(a, p.GetRequestMirrorPolicies()); err != nil {
		return nil, err
	}
	r.Retry, err = decodeRetry(a.in("retry_policy"), p.GetRetryPolicy())
	return r, err
}

func decodeRegexRewrite(a at, p *matcherv3.RegexMatchAndSubstitute) (*RegexRewrite, error) {
	if p == nil {
		return nil, nil
	}
	if err := a.only(p, "pattern", "substitution"); err != nil {
		return nil, err
	}
	if err := a.oneLine(textField{"substitution", p.GetSubstitution()}); err != nil {
		return nil, err
	}
	if p.GetPattern().GetRegex() == "" {
		return nil, a.in("pattern.regex").errorf("is empty")
	}

	pattern, err := regexp.Compile(p.GetPattern().GetRegex())
	if err != nil {
		return nil, a.in("pattern.regex").errorf("%v", err)
	}
	to, err := substitution(p.GetSubstitution(), pattern.NumSubexp())
	if err != nil {
		return nil, a.in("substitution").errorf("%v", err)
	}
	return &RegexRewrite{pattern, to}, nil
}

// substitution turns one in the syntax of RE2 (\1 for a group, \\ for the character)
// into that of regexp.Expand.
func substitution(text string, groups int) (string, error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '$':
			b.WriteString("$$")
		case '\\':
			i++
			switch {
			case i < len(text) && text[i] == '\\':
				b.WriteByte('\\')
			case i < len(text) && '0' <= text[i] && text[i] <= '9':
				if n := int(text[i] - '0'); n > groups {
					return "", fmt.Errorf("there is no group \\%d, the pattern has %d", n, groups)
				}
				b.WriteString("${" + text[i:i+1] + "}")
			default:
				return "", errors.New("a \\ stands before neither a group nor another \\")
			}
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}

func (r *RouteAction) decodeWeighted(a at, p *routev3.WeightedCluster) error {
	if p == nil {
		return nil
	}
	if err := a.only(p, "clusters", "total_weight", "runtime_key_prefix"); err != nil {
		return err
	}

	total := uint32(0)
	for i, w := range p.GetClusters() {
		wa := a.index("clusters", i)
		if err := wa.only(w, "name", "weight", "request_headers_to_add", "request_headers_to_remove",
			"response_headers_to_add", "response_headers_to_remove"); err != nil {
			return err
		}
		if w.GetName() == "" {
			return wa.in("name").errorf("is empty")
		}

		if n := w.GetWeight().GetValue(); n > 0 {
			if total+n < total { // as Envoy refuses it, and a sum would wrap here
				return wa.in("weight").errorf("the weights together are above 2^32")
			}
			total += n
			edits, err := decodeEdits(wa, w)
			if err != nil {
				return err
			}
			r.Weighted = append(r.Weighted, RouteShare{w.GetName(), n, edits})
		}
	}

	if len(r.Weighted) == 0 {
		return a.in("clusters").errorf("has no weight above 0")
	}
	return nil
}
