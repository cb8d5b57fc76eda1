package listen

import (
	"bytes"

	"golang.org/x/net/http2"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// maxRequestLine is how much of a first line is read in search of its end, in
// bytes; maxMethod is the same of its method.
const (
	maxRequestLine = 8 << 10
	maxMethod      = 24
)

var h2Preface = []byte(http2.ClientPreface) // RFC 9113, section 3.4

// sniffHTTP tells from the first bytes whether HTTP is spoken: ProtocolHTTP1,
// ProtocolHTTP2, or ProtocolTCP when it is something else. more asks for more
// bytes.
func sniffHTTP(b []byte) (p config.Protocol, more bool) {
	if n := min(len(b), len(h2Preface)); n > 0 && bytes.Equal(b[:n], h2Preface[:n]) {
		if n == len(h2Preface) {
			return config.ProtocolHTTP2, false
		}
		return config.ProtocolUnknown, true
	}

	// A request line: METHOD SP target SP HTTP/1.x (RFC 9112, section 3).
	i := 0
	for i < len(b) && isMethodByte(b[i]) && i < maxMethod {
		i++
	}

	if i == len(b) && i < maxMethod {
		return config.ProtocolUnknown, true
	}
	if i == 0 || i == maxMethod || b[i] != ' ' {
		return config.ProtocolTCP, false
	}

	line, _, found := bytes.Cut(b, []byte{'\n'})
	if !found {
		if len(b) >= maxRequestLine || bytes.IndexByte(b, 0) >= 0 {
			return config.ProtocolTCP, false
		}
		return config.ProtocolUnknown, true
	}

	line = bytes.TrimSuffix(line, []byte{'\r'})
	version := line[bytes.LastIndexByte(line, ' ')+1:]
	if len(line)-len(version) > i+1 && len(version) == len("HTTP/1.1") && bytes.HasPrefix(version, []byte("HTTP/1.")) {
		return config.ProtocolHTTP1, false
	}
	return config.ProtocolTCP, false
}

// isMethodByte tells whether a byte may stand in a method as they are in use.
func isMethodByte(c byte) bool {
	return 'A' <= c && c <= 'Z' || c == '-' || c == '_'
}
