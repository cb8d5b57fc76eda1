package model

import "strings"

// MatchHost tells whether a pattern (exact, *.suffix or *) covers a name. A name may
// itself be a wildcard.
func MatchHost(pattern, name string) bool {
	if suffix, ok := strings.CutPrefix(pattern, "*"); ok {
		return strings.HasSuffix(name, suffix) && len(name) > len(suffix)
	}
	return pattern == name
}

// CommonHost is the narrower of two patterns of which one covers the other: what both
// of them are about.
func CommonHost(a, b string) (host string, ok bool) {
	switch {
	case a == b, MatchHost(a, b):
		return b, true
	case MatchHost(b, a):
		return a, true
	}
	return "", false
}
