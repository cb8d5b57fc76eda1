package httpproxy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"math/rand/v2"
	"net/url"
	"strings"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
)

// clientCert is what a connection decides about x-forwarded-client-cert, once.
type clientCert struct {
	keep    bool   // keep what the caller sent
	element string // to set, or to append when keep; empty: nothing
}

// newClientCert follows HttpConnectionManager.forward_client_cert_details. What a caller without a verified
// certificate claims is never passed on, except by ALWAYS_FORWARD_ONLY, which says so.
func newClientCert(hcm *config.HCM, info *downstream.Info) clientCert {
	switch hcm.ForwardClientCert {
	case config.ForwardClientCertAlwaysForwardOnly:
		return clientCert{keep: true}
	case config.ForwardClientCertForwardOnly:
		return clientCert{keep: info.MTLS()}
	case config.ForwardClientCertAppendForward:
		if info.MTLS() {
			return clientCert{keep: true, element: certElement(hcm.ClientCertDetails, info.TLS)}
		}
	case config.ForwardClientCertSanitizeSet:
		if info.MTLS() {
			return clientCert{element: certElement(hcm.ClientCertDetails, info.TLS)}
		}
	}
	return clientCert{}
}

// certElement describes the peer in the format of Envoy's x-forwarded-client-cert.
func certElement(d config.ClientCertDetails, t *downstream.TLS) string {
	var b strings.Builder
	if t.OwnURI != "" {
		b.WriteString("By=" + t.OwnURI + ";")
	}
	sum := sha256.Sum256(t.Peer.Raw)
	b.WriteString("Hash=" + hex.EncodeToString(sum[:]))
	if d.Cert {
		b.WriteString(`;Cert="` + url.QueryEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: t.Peer.Raw}))) + `"`)
	}
	if d.Subject {
		b.WriteString(`;Subject="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(t.Peer.Subject.String()) + `"`)
	}
	if d.URI {
		b.WriteString(";URI=" + t.PeerURI)
	}
	if d.DNS {
		for _, n := range t.Peer.DNSNames {
			b.WriteString(";DNS=" + n)
		}
	}
	return b.String()
}

// appendRequestID appends a random UUID (RFC 9562 version 4).
func appendRequestID(out []byte) []byte {
	hi, lo := rand.Uint64(), rand.Uint64()
	hi = hi&^0xf000 | 0x4000
	lo = lo&^(0xc000<<48) | 0x8000<<48
	const digits = "0123456789abcdef"
	for i := range 32 {
		if i == 8 || i == 12 || i == 16 || i == 20 {
			out = append(out, '-')
		}
		word := hi
		if i >= 16 {
			word = lo
		}
		out = append(out, digits[word>>(60-4*(i%16))&0xf])
	}
	return out
}

// normalizePath resolves dot segments and, as the configuration asks, empty ones, so that a path is routed as
// the application will read it. It allocates only when there is something to change.
func normalizePath(hcm *config.HCM, path string) string {
	if !hcm.NormalizePath && !hcm.MergeSlashes || !strings.HasPrefix(path, "/") {
		return path
	}
	p, query, hasQuery := strings.Cut(path, "?")
	dots := hcm.NormalizePath && (strings.Contains(p, "/.") || strings.ContainsAny(p, `\%`))
	slashes := hcm.MergeSlashes && strings.Contains(p, "//")
	if !dots && !slashes {
		return path
	}
	if hcm.NormalizePath {
		p = removeDotSegments(decodeUnreserved(strings.ReplaceAll(p, `\`, "/")))
	}
	for hcm.MergeSlashes && strings.Contains(p, "//") {
		p = strings.ReplaceAll(p, "//", "/")
	}
	if hasQuery {
		return p + "?" + query
	}
	return p
}

// decodeUnreserved decodes percent-encoded unreserved characters (RFC 3986 section 6.2.2.2).
func decodeUnreserved(p string) string {
	if !strings.Contains(p, "%") {
		return p
	}
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		if p[i] == '%' && i+2 < len(p) {
			hi, lo := hexDigit(p[i+1]), hexDigit(p[i+2])
			if c := byte(hi<<4 | lo); hi >= 0 && lo >= 0 && unreserved(c) {
				b.WriteByte(c)
				i += 2
				continue
			}
		}
		b.WriteByte(p[i])
	}
	return b.String()
}

func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

// removeDotSegments follows RFC 3986 section 5.2.4 for absolute paths.
func removeDotSegments(p string) string {
	segments := strings.Split(p[1:], "/")
	out := make([]string, 0, len(segments))
	for i, s := range segments {
		last := i == len(segments)-1
		switch s {
		case ".":
			if last {
				out = append(out, "")
			}
		case "..":
			if len(out) > 0 {
				out = out[:len(out)-1]
			}
			if last {
				out = append(out, "")
			}
		default:
			out = append(out, s)
		}
	}
	return "/" + strings.Join(out, "/")
}

// isGRPC tells by the content type (gRPC over HTTP/2, "Requests").
func isGRPC(contentType string) bool {
	const grpc = "application/grpc"
	return strings.HasPrefix(contentType, grpc) &&
		(len(contentType) == len(grpc) || contentType[len(grpc)] == '+' || contentType[len(grpc)] == ';')
}

// rewrite returns the path to ask the endpoint for.
func (r *route) rewrite(path string) string {
	a := r.Action
	if a == nil || a.PrefixRewrite == "" {
		return path
	}
	m := &r.Match
	switch {
	case m.Path != "":
		_, query, has := strings.Cut(path, "?")
		if has {
			return a.PrefixRewrite + "?" + query
		}
		return a.PrefixRewrite
	case m.SeparatedPrefix != "":
		return a.PrefixRewrite + path[len(m.SeparatedPrefix):]
	case m.Prefix != "":
		return a.PrefixRewrite + path[len(m.Prefix):]
	}
	return path
}
