package telemetry

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/outcome"
)

// defaultFormat is Envoy's default access log format.
const defaultFormat = `[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" ` +
	`%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ` +
	`%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" ` +
	`"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"` + "\n"

// startFormat is how START_TIME is written unless a format says otherwise.
const startFormat = "2006-01-02T15:04:05.000Z"

// operator appends the value of one command operator to b, or nothing when it
// does not apply.
type operator func(b []byte, e *Entry, end time.Time) []byte

type piece struct {
	literal string
	op      operator // nil for a literal
	number  bool     // written bare in JSON
}

// format is a compiled access log format: a text, or a JSON object.
type format struct {
	text []piece
	keys []string // of the JSON object, sorted
	vals [][]piece
}

func compileFormat(cfg *config.AccessLog, a *AccessLog) (*format, error) {
	if cfg.JSON == nil {
		text := cfg.Text
		if text == "" {
			text = defaultFormat
		}
		p, err := parsePieces(text, a)
		return &format{text: p}, err
	}

	f := &format{}
	for _, k := range slices.Sorted(maps.Keys(cfg.JSON)) {
		p, err := parsePieces(cfg.JSON[k], a)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", k, err)
		}
		quoted, err := json.Marshal(k)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", k, err)
		}
		f.keys = append(f.keys, string(quoted))
		f.vals = append(f.vals, p)
	}

	return f, nil
}

func (f *format) append(b []byte, e *Entry, end time.Time) []byte {
	if f.keys == nil {
		return appendPieces(b, f.text, e, end)
	}

	b = append(b, '{')
	for i, k := range f.keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, k...), ':')
		b = appendValue(b, f.vals[i], e, end)
	}
	return append(b, '}', '\n')
}

// appendValue appends a JSON value: a number where a lone operator is one, null
// where it does not apply.
func appendValue(b []byte, p []piece, e *Entry, end time.Time) []byte {
	from := len(b)
	if len(p) == 1 && p[0].op != nil {
		b = p[0].op(b, e, end)
		if len(b) == from {
			return append(b, "null"...)
		}
		if p[0].number {
			return b
		}
	} else {
		b = appendPieces(b, p, e, end)
	}

	quoted, _ := json.Marshal(string(b[from:])) // a string can always be marshalled
	return append(b[:from], quoted...)
}

func appendPieces(b []byte, pieces []piece, e *Entry, end time.Time) []byte {
	for i := range pieces {
		p := &pieces[i]
		if p.op == nil {
			b = append(b, p.literal...)
			continue
		}
		from := len(b)
		if b = p.op(b, e, end); len(b) == from {
			b = append(b, '-')
		}
	}
	return b
}

// parsePieces splits a format string at its %OPERATORS%. Headers that it names
// are added to a.
func parsePieces(text string, a *AccessLog) ([]piece, error) {
	var out []piece
	for {
		before, rest, ok := strings.Cut(text, "%")
		if before != "" {
			out = append(out, piece{literal: before})
		}
		if !ok {
			return out, nil
		}

		if strings.HasPrefix(rest, "%") {
			out = append(out, piece{literal: "%"})
			text = rest[1:]
			continue
		}

		name, after, ok := cutOperator(rest)
		if !ok {
			return nil, errors.New("a % that begins an operator has no second one")
		}

		p, err := parseOperator(name, a)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
		text = after
	}
}

// cutOperator splits s at the % that ends an operator, which is one outside of
// parentheses.
func cutOperator(s string) (name, rest string, ok bool) {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '(':
			depth++
		case ')':
			depth--
		case '%':
			if depth <= 0 {
				return s[:i], s[i+1:], true
			}
		}
	}
	return "", "", false
}

func parseOperator(op string, a *AccessLog) (piece, error) {
	name, arg := op, ""
	if i := strings.IndexByte(op, '('); i >= 0 {
		j := strings.LastIndexByte(op, ')')
		if j < i {
			return piece{}, fmt.Errorf("operator %q has an unclosed parenthesis", op)
		}
		name, arg = op[:i], op[i+1:j]
		if err := refuseLimit(op[j+1:], op); err != nil {
			return piece{}, err
		}
	}

	switch name {
	case "REQ":
		return piece{op: requestHeader(arg, a)}, nil
	case "RESP":
		return piece{op: responseHeader(arg, a)}, nil
	case "START_TIME":
		if arg != "" {
			return piece{}, fmt.Errorf("operator %q: only the default time format is supported", op)
		}
		return piece{op: func(b []byte, e *Entry, _ time.Time) []byte {
			return e.Start.UTC().AppendFormat(b, startFormat)
		}}, nil
	}

	if n := numberOperator(name); n != nil {
		return piece{op: n, number: true}, nil
	}
	if s := stringOperator(name); s != nil {
		return piece{op: func(b []byte, e *Entry, _ time.Time) []byte { return append(b, s(e)...) }}, nil
	}
	return piece{}, fmt.Errorf("operator %q is not supported", op)
}

func refuseLimit(tail, op string) error {
	if tail != "" {
		return fmt.Errorf("operator %q: a length limit is not supported", op)
	}
	return nil
}

func numberOperator(name string) operator {
	var value func(e *Entry, end time.Time) int64
	switch name {
	case "RESPONSE_CODE":
		value = func(e *Entry, _ time.Time) int64 { return int64(e.Code) }
	case "BYTES_RECEIVED":
		value = func(e *Entry, _ time.Time) int64 { return e.Received }
	case "BYTES_SENT":
		value = func(e *Entry, _ time.Time) int64 { return e.Sent }
	case "DURATION":
		value = func(e *Entry, end time.Time) int64 { return end.Sub(e.Start).Milliseconds() }
	case "GRPC_STATUS_NUMBER", "GRPC_STATUS":
		return func(b []byte, e *Entry, _ time.Time) []byte {
			if e.GRPC == outcome.NoGRPCStatus {
				return b
			}
			return strconv.AppendInt(b, int64(e.GRPC), 10)
		}
	default:
		return nil
	}

	return func(b []byte, e *Entry, end time.Time) []byte { return strconv.AppendInt(b, value(e, end), 10) }
}

func stringOperator(name string) func(e *Entry) string {
	switch name {
	case "PROTOCOL":
		return func(e *Entry) string { return e.Protocol }
	case "RESPONSE_FLAGS":
		return func(e *Entry) string { return e.Flags }
	case "UPSTREAM_HOST":
		return func(e *Entry) string {
			if !e.Upstream.IsValid() {
				return ""
			}
			return e.Upstream.String()
		}
	case "UPSTREAM_CLUSTER", "UPSTREAM_CLUSTER_RAW":
		return func(e *Entry) string { return e.Cluster }
	case "ROUTE_NAME":
		return func(e *Entry) string { return e.Route }
	case "DOWNSTREAM_REMOTE_ADDRESS", "DOWNSTREAM_DIRECT_REMOTE_ADDRESS":
		return func(e *Entry) string { return e.Info.Peer.String() }
	case "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT":
		return func(e *Entry) string { return e.Info.Peer.Addr().String() }
	case "DOWNSTREAM_LOCAL_ADDRESS":
		return func(e *Entry) string { return e.Info.Local.String() }
	case "DOWNSTREAM_PEER_URI_SAN":
		return func(e *Entry) string { return e.Info.PeerPrincipal() }
	case "REQUESTED_SERVER_NAME":
		return func(e *Entry) string { return e.Info.SNI }
	case "RESPONSE_CODE_DETAILS":
		return func(e *Entry) string { return detailsIf(e, e.Protocol != "") }
	case "CONNECTION_TERMINATION_DETAILS":
		return func(e *Entry) string { return detailsIf(e, e.Protocol == "") }
	case "UPSTREAM_TRANSPORT_FAILURE_REASON", "UPSTREAM_LOCAL_ADDRESS":
		return func(*Entry) string { return "" } // part of Istio's default format; not recorded
	}
	return nil
}

// detailsIf is the entry's details where they are of the kind that is asked for: of
// requests, or of connections.
func detailsIf(e *Entry, ofKind bool) string {
	if !ofKind {
		return ""
	}
	return e.Details
}

// requestHeader reads REQ(A?B): header A, or B when A is absent.
func requestHeader(arg string, a *AccessLog) operator {
	var reads []operator
	for name := range strings.SplitSeq(strings.ToLower(arg), "?") {
		reads = append(reads, pseudoHeader(name, a))
	}
	return firstOf(reads)
}

func pseudoHeader(name string, a *AccessLog) operator {
	switch name {
	case ":method":
		return func(b []byte, e *Entry, _ time.Time) []byte { return append(b, e.Method...) }
	case ":path":
		return func(b []byte, e *Entry, _ time.Time) []byte { return append(b, e.Path...) }
	case ":authority", "host":
		return func(b []byte, e *Entry, _ time.Time) []byte { return append(b, e.Authority...) }
	case ":scheme":
		return func(b []byte, e *Entry, _ time.Time) []byte { return append(b, e.Scheme...) }
	}

	i := addName(&a.request, name)
	return func(b []byte, e *Entry, _ time.Time) []byte { return appendAt(b, e.RequestHeaders, i) }
}

func responseHeader(arg string, a *AccessLog) operator {
	var reads []operator
	for name := range strings.SplitSeq(strings.ToLower(arg), "?") {
		i := addName(&a.response, name)
		reads = append(reads, func(b []byte, e *Entry, _ time.Time) []byte { return appendAt(b, e.ResponseHeaders, i) })
	}
	return firstOf(reads)
}

func firstOf(reads []operator) operator {
	return func(b []byte, e *Entry, end time.Time) []byte {
		from := len(b)
		for _, r := range reads {
			if b = r(b, e, end); len(b) > from {
				break
			}
		}
		return b
	}
}

func addName(names *[]string, name string) int {
	if i := slices.Index(*names, name); i >= 0 {
		return i
	}
	*names = append(*names, name)
	return len(*names) - 1
}

func appendAt(b []byte, values []string, i int) []byte {
	if i < len(values) {
		return append(b, values[i]...)
	}
	return b
}
