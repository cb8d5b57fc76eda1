package routes

import "strings"

// asciiLower allocates only when there is an upper-case letter.
func asciiLower(s string) string {
	for i := range len(s) {
		if s[i]-'A' < 26 {
			return strings.ToLower(s)
		}
	}
	return s
}

// WithoutPort returns the host of an authority.
func WithoutPort(authority string) string {
	i := strings.LastIndexByte(authority, ':')
	if i < 0 || strings.IndexByte(authority[i:], ']') >= 0 {
		return authority
	}
	return authority[:i]
}

// withoutFinalDot removes the dot with which an absolute domain name ends, before a port or not: it names the same
// host (RFC 3986 section 3.2.2). It allocates only when there is a dot before a port.
func withoutFinalDot(authority string) string {
	end := len(WithoutPort(authority))
	if end < 2 || authority[end-1] != '.' {
		return authority
	}
	if end == len(authority) {
		return authority[:end-1]
	}
	return authority[:end-1] + authority[end:]
}
