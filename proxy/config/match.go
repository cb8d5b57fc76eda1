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

// same tells whether two match the same texts because they are written alike.
func (m *StringMatch) same(o *StringMatch) bool {
	if (m.Regex == nil) != (o.Regex == nil) || m.Regex != nil && m.Regex.String() != o.Regex.String() {
		return false
	}
	return m.Kind == o.Kind && m.Value == o.Value && m.IgnoreCase == o.IgnoreCase
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
		return m.matchFolded(s)
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

// matchFolded compares without regard to the case of ASCII letters, as Envoy does,
// and makes no copy of s: this is asked of each request.
func (m *StringMatch) matchFolded(s string) bool {
	n := len(m.Value)
	if len(s) < n {
		return false
	}
	switch m.Kind {
	case MatchExact:
		return len(s) == n && equalFolded(s, m.Value)
	case MatchPrefix:
		return equalFolded(s[:n], m.Value)
	case MatchSuffix:
		return equalFolded(s[len(s)-n:], m.Value)
	}
	for i := range len(s) - n + 1 {
		if equalFolded(s[i:i+n], m.Value) {
			return true
		}
	}
	return false
}

// equalFolded compares texts of one length.
func equalFolded(a, b string) bool {
	for i := range len(a) {
		if lowerASCII(a[i]) != lowerASCII(b[i]) {
			return false
		}
	}
	return true
}

func lowerASCII(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
