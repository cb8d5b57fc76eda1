package http1

import (
	"net/netip"
	"strings"
)

// IsAuthority reports whether b is a host with an optional port (RFC 9110 section 7.2, RFC 3986 section 3.2), or
// empty. No user information; a comma is refused too, since who lists Host values would see several.
func IsAuthority(b []byte) bool {
	host, port := View(b), ""
	if strings.HasPrefix(host, "[") {
		end := strings.IndexByte(host, ']')
		if end < 0 {
			return false
		}
		addr, err := netip.ParseAddr(host[1:end])
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return false
		}
		host, port = "", host[end+1:]
		if port != "" && port[0] != ':' {
			return false
		}
		port = strings.TrimPrefix(port, ":")
	} else if i := strings.IndexByte(host, ':'); i >= 0 {
		host, port = host[:i], host[i+1:]
	}
	return isRegName(host) && isPort(port)
}

// regNameTable marks the characters that a registered name holds as they are.
var regNameTable = charsetOf(unreserved + subDelimiters)

// The characters of a registered name, but for the comma (RFC 3986 sections 2.2 and 2.3).
const (
	unreserved    = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
	subDelimiters = "!$&'()*+;="
)

// isRegName accepts unreserved characters, the sub-delimiters but the comma, and percent-encoded octets (RFC 3986
// section 3.2.2).
func isRegName(host string) bool {
	if regNameTable.holds(host) {
		return true
	}
	i := 0
	for {
		for i < len(host) && regNameTable[host[i]] != 0 {
			i++
		}
		if i == len(host) {
			return true
		}
		if host[i] != '%' || i+2 >= len(host) || hexDigit(host[i+1]) < 0 || hexDigit(host[i+2]) < 0 {
			return false
		}
		i += 3
	}
}

// isPort accepts digits up to 65535, and emptiness.
func isPort(port string) bool {
	n := 0
	for i := range len(port) {
		if !isDigit(port[i]) {
			return false
		}
		if n = n*10 + int(port[i]-'0'); n > 65535 {
			return false
		}
	}
	return true
}
