package config

import (
	"regexp"

	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// decodeString reads a string matcher.
func decodeString(a at, p *matcherv3.StringMatcher) (StringMatch, error) {
	if err := a.only(p, "exact", "prefix", "suffix", "contains", "safe_regex", "ignore_case"); err != nil {
		return StringMatch{}, err
	}

	m := StringMatch{IgnoreCase: p.GetIgnoreCase()}
	switch v := p.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		m.Kind, m.Value = MatchExact, v.Exact
	case *matcherv3.StringMatcher_Prefix:
		m.Kind, m.Value = MatchPrefix, v.Prefix
	case *matcherv3.StringMatcher_Suffix:
		m.Kind, m.Value = MatchSuffix, v.Suffix
	case *matcherv3.StringMatcher_Contains:
		m.Kind, m.Value = MatchContains, v.Contains
	case *matcherv3.StringMatcher_SafeRegex:
		re, err := decodeRegex(a.in("safe_regex"), v.SafeRegex)
		if err != nil {
			return m, err
		}
		m.Kind, m.Value, m.Regex = MatchRegex, v.SafeRegex.GetRegex(), re
	default:
		return m, a.errorf("has no pattern")
	}

	if m.Kind != MatchExact && m.Value == "" {
		return m, a.errorf("has an empty pattern, which would match everything")
	}
	return m, nil
}

// decodeRegex compiles an RE2 expression that has to match as a whole.
func decodeRegex(a at, p *matcherv3.RegexMatcher) (*regexp.Regexp, error) {
	re, err := regexp.Compile("^(?:" + p.GetRegex() + ")$")
	if err != nil {
		return nil, a.in("regex").errorf("%v", err)
	}
	return re, nil
}
