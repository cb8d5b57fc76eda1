package listen

import (
	"bytes"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// maxRequestLine is how much of a first line is read in search of its end.
const maxRequestLine = 8 << 10

var h2Preface = []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") // RFC 9113, section 3.4

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
	for i < len(b) && isMethodByte(b[i]) && i < 24 {
		i++
	}
	if i == len(b) && i < 24 {
		return config.ProtocolUnknown, true
	}
	if i == 0 || i == 24 || b[i] != ' ' {
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
	if at := bytes.LastIndexByte(line, ' '); at > i && bytes.HasPrefix(line[at+1:], []byte("HTTP/1.")) && len(line)-at == len(" HTTP/1.1") {
		return config.ProtocolHTTP1, false
	}
	return config.ProtocolTCP, false
}

// isMethodByte tells whether a byte may stand in a method as they are in use.
func isMethodByte(c byte) bool {
	return 'A' <= c && c <= 'Z' || c == '-' || c == '_'
}
