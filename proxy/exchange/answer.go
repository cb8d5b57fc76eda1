package exchange

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/outcome"
	"github.com/isthmus-mesh/isthmus/proxy/routes"
)

// Answer is one that the proxy makes itself.
type Answer struct {
	Status   int
	Flag     outcome.Flag
	Body     string
	Location string // of a redirect
	// Challenge says how to do better, WWW-Authenticate.
	Challenge string
	Mark      string // FailedField
	// Fields are said beside those of every answer.
	Fields []Field
	// Preflight says that it answers a question of CORS.
	Preflight bool
	// ByGRPC says that callers of gRPC get the status GRPC, and not what stands for Status there.
	ByGRPC bool
	GRPC   int
}

func reply(a *Answer) Verdict { return Verdict{Do: Reply, Answer: a} }

func notReady() *Answer {
	return &Answer{Status: 503, Flag: outcome.NoRoute, Body: "the proxy has not received its routes yet; try again shortly"}
}

func noRoute(table string, q *routes.Target) *Answer {
	return &Answer{Status: 404, Flag: outcome.NoRoute,
		Body: fmt.Sprintf("no route of %q fits host %q and path %q", table, q.Authority, q.Path)}
}

func noCluster(r *routes.Route, name string) *Answer {
	a := &Answer{Status: 503, Flag: outcome.NoCluster, Body: fmt.Sprintf("cluster %q, to which the route leads, is not known", name)}
	if r.Action.NotFoundStatus != 0 {
		a.Status = r.Action.NotFoundStatus
	}
	return a
}

// failed is the answer to a request whose last try failed.
func (x *Exchange) failed() *Answer {
	f := &x.last
	a := &Answer{Status: 503, Mark: x.mark()}
	who := fmt.Sprintf("the upstream of cluster %q", x.Cluster.Name())
	if f.Endpoint != "" {
		who += " at " + f.Endpoint
	}

	switch f.Cause {
	case 0:
		a.Flag = outcome.NoHealthyUpstream
		a.Body = fmt.Sprintf("no healthy upstream: %v", f.Err)
	case Unreachable:
		a.Flag = outcome.UpstreamFailure
		a.Body = fmt.Sprintf("upstream connect failure: %v", f.Err)
	case Malformed:
		a.Status, a.Flag = 502, outcome.UpstreamProtocol
		a.Body = fmt.Sprintf("%s broke the protocol: %v", who, f.Err)
	case Silent, Late:
		a.Status, a.Flag = 504, outcome.UpstreamTimeout
		a.Body = who + " did not answer in time"
	case Idle:
		a.Status, a.Flag = 504, outcome.StreamIdle
		a.Body = "nothing has moved on the request for as long as it may be idle"
	case unwanted:
		a.Flag = outcome.UpstreamTerminated
		a.Body = fmt.Sprintf("%s gave an answer that is not to be passed on (%v), and no other endpoint could be asked", who, f.Err)
	case Lost:
		a.Flag = outcome.UpstreamTerminated
		a.Body = fmt.Sprintf("the connection to %s is dead: %v", who, f.Err)
	default:
		a.Flag = outcome.UpstreamTerminated
		a.Body = fmt.Sprintf("%s ended the connection before it answered: %v", who, f.Err)
	}
	return a
}

// Field is one header field; the name is in lower case.
type Field struct{ Name, Value string }

// Local is an answer of the proxy itself, ready to be written.
type Local struct {
	Status int
	Fields []Field
	Body   string
}

// Local turns an answer into what the caller's protocol wants, and notes the outcome. gRPC callers get the status as
// a trailers-only response, with which every client can deal (gRPC over HTTP/2, "Responses").
func (x *Exchange) Local(a *Answer, server string, now time.Time) Local {
	out := Local{Status: a.Status, Body: a.Body, Fields: make([]Field, 0, 8)}
	kind := "text/plain"
	if x.GRPC {
		x.Outcome.GRPC = grpcStatus(a.Status)
		if a.ByGRPC {
			x.Outcome.GRPC = a.GRPC
		}
		out.Status, out.Body, kind = 200, "", "application/grpc"
	}
	x.Outcome.Code = out.Status
	x.flagged(a.Flag)
	if !x.GRPC {
		x.Outcome.GRPC = outcome.NoGRPCStatus
	}

	add := func(name, value string) {
		if value != "" {
			out.Fields = append(out.Fields, Field{name, value})
		}
	}
	add("content-type", kind)
	add("server", server)
	add("date", now.UTC().Format(http.TimeFormat))
	add("location", a.Location)
	add("www-authenticate", a.Challenge)
	add(FailedField, a.Mark)
	out.Fields = append(out.Fields, a.Fields...)
	if x.origin != "" {
		out.Fields = append(out.Fields, x.originFields(a.Preflight)...)
	}
	switch {
	case x.GRPC:
		add("grpc-status", strconv.Itoa(x.Outcome.GRPC))
		add("grpc-message", grpcMessage(a.Body))
	case out.Status == 204 || out.Status == 304 || out.Status < 200: // no body (RFC 9110 section 6.4.1)
		out.Body = ""
	default:
		add("content-length", strconv.Itoa(len(out.Body)))
	}
	return out
}

// grpcStatus maps the status of an answer of the proxy itself
// (https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md).
func grpcStatus(status int) int {
	switch status {
	case 400:
		return 13 // INTERNAL
	case 401:
		return 16 // UNAUTHENTICATED
	case 403:
		return 7 // PERMISSION_DENIED
	case 404:
		return 12 // UNIMPLEMENTED
	case 429, 502, 503, 504:
		return 14 // UNAVAILABLE
	}
	return 2 // UNKNOWN
}

// grpcMessage percent-encodes a message (gRPC over HTTP/2, "Status-Message").
func grpcMessage(msg string) string {
	var b strings.Builder
	for i := range len(msg) {
		if c := msg[i]; c < 0x20 || c > 0x7e || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// IsGRPC tells by the content type (gRPC over HTTP/2, "Requests").
func IsGRPC(contentType string) bool {
	const grpc = "application/grpc"
	return strings.HasPrefix(contentType, grpc) &&
		(len(contentType) == len(grpc) || contentType[len(grpc)] == '+' || contentType[len(grpc)] == ';')
}

// ParseGRPCStatus returns a grpc-status, or -1 for what is none.
func ParseGRPCStatus(v string) int {
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 || n > 999 {
		return -1
	}
	return n
}
