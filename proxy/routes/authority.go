package routes

import "strings"

// asciiLower allocates only when there is an upper-case letter.
func asciiLower(s string) string {
	if hasUpper(s) {
		return strings.ToLower(s)
	}
	return s
}

// hasUpper looks for an ASCII letter in upper case, in eight bytes at a time: each request's host comes through here.
func hasUpper(s string) bool {
	for len(s) >= 8 {
		if upperIn(s[:8]) {
			return true
		}
		s = s[8:]
	}
	for i := range len(s) {
		if s[i]-'A' < 26 {
			return true
		}
	}
	return false
}

// upperIn is hasUpper for eight bytes. In sums of seven bits each, none of which carries into the next, the highest bit
// tells which bytes are no less than A, and which are more than Z.
func upperIn(s string) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	_ = s[7]
	x := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
	low := x &^ highs
	from, beyond := low+(0x80-'A')*ones, low+(0x80-'Z'-1)*ones
	return from&^beyond&^x&highs != 0
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
