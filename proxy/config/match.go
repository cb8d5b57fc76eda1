package config

import (
	"regexp"
	"strings"
)

// MatchKind is the kind of a [StringMatch].
type MatchKind uint8

// Kinds of string match.
const (
	MatchExact MatchKind = iota
	MatchPrefix
	MatchSuffix
	MatchContains
	MatchRegex
	MatchAny
)

// StringMatch is envoy.type.matcher.v3.StringMatcher. The zero value matches
// the empty string.
type StringMatch struct {
	Kind       MatchKind
	Value      string
	IgnoreCase bool
	Regex      *regexp.Regexp // MatchRegex; anchored at both ends
}

// Match tells whether s matches.
func (m *StringMatch) Match(s string) bool {
	v := m.Value
	switch m.Kind {
	case MatchAny:
		return true
	case MatchRegex:
		return m.Regex.MatchString(s)
	}

	if m.IgnoreCase {
		s, v = strings.ToLower(s), strings.ToLower(v)
	}

	switch m.Kind {
	case MatchExact:
		return s == v
	case MatchPrefix:
		return strings.HasPrefix(s, v)
	case MatchSuffix:
		return strings.HasSuffix(s, v)
	default:
		return strings.Contains(s, v)
	}
}
