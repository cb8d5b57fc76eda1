package listen

import (
	"errors"
	"strings"

	"golang.org/x/crypto/cryptobyte"
)

// maxHello bounds what is looked at before a chain is chosen, in bytes.
const maxHello = 64 << 10

// Numbers on the wire.
const (
	recordHead     = 5           // bytes: type, version, length (RFC 8446, section 5.1)
	recordShake    = 22          // record type handshake (RFC 8446, section 5.1)
	maxRecordBytes = 1<<14 + 256 // of one record (RFC 8446, section 5.2)
	helloType      = 1           // message client_hello (RFC 8446, section 4)
	extServerName  = 0           // RFC 6066, section 3
	hostNameType   = 0           // RFC 6066, section 3
	extALPN        = 16          // RFC 7301, section 3.1
)

var (
	errMore     = errors.New("more bytes are needed")
	errNotTLS   = errors.New("not TLS")
	errBadHello = errors.New("malformed ClientHello")
)

// hello is what a ClientHello says openly.
type hello struct {
	sni  string // lower case; "" when absent or not a host name
	alpn []string
}

// parseHello reads the ClientHello at the start of b. errMore asks for more
// bytes, errNotTLS tells that b cannot start a TLS connection.
func parseHello(b []byte) (hello, error) {
	if len(b) > 0 && b[0] != recordShake || len(b) > 1 && b[1] != 3 {
		return hello{}, errNotTLS
	}
	msg, err := handshakeBytes(b)
	if err != nil {
		return hello{}, err
	}
	return parseClientHello(msg)
}

// handshakeBytes returns the first handshake message, without its head, put
// together from as many records as it takes.
func handshakeBytes(b []byte) ([]byte, error) {
	var msg []byte
	first := true
	for {
		if len(b) < recordHead {
			return nil, errMore
		}

		n := int(b[3])<<8 | int(b[4])
		if b[0] != recordShake || n == 0 || n > maxRecordBytes {
			return nil, errBadHello
		}

		body := b[recordHead:min(len(b), recordHead+n)]
		whole := len(body) == n
		if first && whole {
			msg = body // the usual case: no copy
		} else {
			msg = append(msg[:len(msg):len(msg)], body...)
		}
		if len(msg) >= 1 && msg[0] != helloType {
			return nil, errNotTLS
		}

		if len(msg) >= 4 {
			want := int(msg[1])<<16 | int(msg[2])<<8 | int(msg[3])
			if want > maxHello {
				return nil, errBadHello
			}
			if len(msg) >= 4+want {
				return msg[4 : 4+want], nil
			}
		}

		if !whole {
			return nil, errMore
		}
		first = false
		b = b[recordHead+n:]
	}
}

// parseClientHello reads the body of a ClientHello (RFC 8446, section 4.1.2).
func parseClientHello(b []byte) (hello, error) {
	var h hello
	var session, suites, compression cryptobyte.String
	msg := cryptobyte.String(b)
	if !msg.Skip(2+32) || // version, random
		!msg.ReadUint8LengthPrefixed(&session) ||
		!msg.ReadUint16LengthPrefixed(&suites) ||
		!msg.ReadUint8LengthPrefixed(&compression) {
		return h, errBadHello
	}

	if msg.Empty() {
		return h, nil // extensions may be left out (RFC 5246, section 7.4.1.2)
	}

	var extensions cryptobyte.String
	if !msg.ReadUint16LengthPrefixed(&extensions) {
		return h, errBadHello
	}

	for !extensions.Empty() {
		var kind uint16
		var body cryptobyte.String
		if !extensions.ReadUint16(&kind) || !extensions.ReadUint16LengthPrefixed(&body) {
			return h, errBadHello
		}

		ok := true
		switch kind {
		case extServerName:
			h.sni, ok = serverName(body)
		case extALPN:
			h.alpn, ok = protocols(body)
		}

		if !ok {
			return h, errBadHello
		}
	}

	return h, nil
}

// serverName reads the host_name of a server_name extension; "" when there is
// none. ok is false for what cannot be read.
func serverName(extension cryptobyte.String) (name string, ok bool) {
	var list cryptobyte.String
	if !extension.ReadUint16LengthPrefixed(&list) {
		return "", false
	}

	for !list.Empty() {
		var kind uint8
		var text cryptobyte.String
		if !list.ReadUint8(&kind) || !list.ReadUint16LengthPrefixed(&text) {
			return "", false
		}
		if kind == hostNameType {
			return hostName(string(text)), true
		}
	}
	return "", true
}

// hostName returns the name in lower case, or "" for what is not one. Names
// pick clusters, so nothing but a host name may pass.
func hostName(s string) string {
	if s == "" || len(s) > 255 {
		return ""
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '-' || c == '_') {
			return ""
		}
	}
	return strings.ToLower(strings.TrimSuffix(s, "."))
}

// protocols reads the names of an ALPN extension. ok is false for what cannot be
// read.
func protocols(extension cryptobyte.String) (names []string, ok bool) {
	var list cryptobyte.String
	if !extension.ReadUint16LengthPrefixed(&list) {
		return nil, false
	}

	for !list.Empty() {
		var name cryptobyte.String
		if !list.ReadUint8LengthPrefixed(&name) {
			return nil, false
		}
		if len(name) > 0 {
			names = append(names, string(name))
		}
	}
	return names, true
}
