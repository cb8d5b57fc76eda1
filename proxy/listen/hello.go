package listen

import (
	"errors"
	"strings"
)

// Limits of what is looked at before a chain is chosen.
const (
	maxHello       = 64 << 10
	recordHead     = 5
	recordShake    = 22 // handshake, RFC 8446 section 5.1
	helloType      = 1  // client_hello, RFC 8446 section 4
	extServerName  = 0  // RFC 6066 section 3
	extALPN        = 16 // RFC 7301 section 3.1
	maxRecordBytes = 1<<14 + 256
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

// reader takes length-prefixed fields off a message.
type reader struct {
	b  []byte
	ok bool
}

func (r *reader) take(n int) []byte {
	if !r.ok || n > len(r.b) {
		r.ok = false
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) u8() int {
	if b := r.take(1); r.ok {
		return int(b[0])
	}
	return 0
}

func (r *reader) u16() int {
	if b := r.take(2); r.ok {
		return int(b[0])<<8 | int(b[1])
	}
	return 0
}

// parseClientHello reads the body of a ClientHello (RFC 8446, section 4.1.2).
func parseClientHello(b []byte) (hello, error) {
	var h hello
	r := reader{b, true}
	r.take(2 + 32)  // version, random
	r.take(r.u8())  // session id
	r.take(r.u16()) // cipher suites
	r.take(r.u8())  // compression methods
	if !r.ok {
		return h, errBadHello
	}
	if len(r.b) == 0 {
		return h, nil
	}
	ext := reader{r.take(r.u16()), true}
	if !r.ok {
		return h, errBadHello
	}
	for len(ext.b) > 0 {
		kind := ext.u16()
		body := reader{ext.take(ext.u16()), true}
		if !ext.ok {
			return h, errBadHello
		}
		switch kind {
		case extServerName:
			h.sni = serverName(&body)
		case extALPN:
			h.alpn = protocols(&body)
		}
		if !body.ok {
			return h, errBadHello
		}
	}
	return h, nil
}

// serverName reads the host_name of a server_name extension.
func serverName(r *reader) string {
	list := reader{r.take(r.u16()), r.ok}
	for r.ok && list.ok && len(list.b) > 0 {
		kind, name := list.u8(), list.take(list.u16())
		if list.ok && kind == 0 {
			return hostName(string(name))
		}
	}
	r.ok = r.ok && list.ok
	return ""
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

// protocols reads the names of an ALPN extension.
func protocols(r *reader) []string {
	var out []string
	list := reader{r.take(r.u16()), r.ok}
	for list.ok && len(list.b) > 0 {
		if name := list.take(list.u8()); list.ok && len(name) > 0 {
			out = append(out, string(name))
		}
	}
	r.ok = r.ok && list.ok
	return out
}
