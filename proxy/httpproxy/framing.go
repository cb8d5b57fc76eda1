package httpproxy

import "bytes"

// count returns how many fields carry id.
func (h *head) count(id fieldID) int {
	if h.first[id] == 0 {
		return 0
	}
	n := 0
	for i := range h.fields {
		if h.fields[i].id == id {
			n++
		}
	}
	return n
}

// checkRequest decides the framing of a request and refuses what is ambiguous.
func (h *head) checkRequest() error {
	switch hosts := h.count(fieldHost); {
	case hosts > 1:
		return badRequest("the request has %d Host fields", hosts)
	case hosts == 0 && h.minor == 1:
		return badRequest("the request has no Host field")
	case hosts == 1 && !isAuthority(h.get(fieldHost)):
		return badRequest("the Host field is not a host with an optional port")
	}
	if err := h.readConnection(); err != nil {
		return err
	}
	chunked, err := h.transferEncoding()
	if err != nil {
		return err
	}
	length, has, err := h.contentLength()
	if err != nil {
		return err
	}
	switch {
	case chunked && has:
		return badRequest("the request has both Transfer-Encoding and Content-Length")
	case chunked:
		h.framing = framing{kind: bodyChunked}
	case has && length > 0:
		h.framing = framing{kind: bodyLength, length: length}
	}
	return nil
}

// checkResponse decides the framing of a response (RFC 9112 section 6.3).
func (h *head) checkResponse(toHead bool) error {
	if err := h.readConnection(); err != nil {
		return err
	}
	chunked, err := h.transferEncoding()
	if err != nil {
		return err
	}
	length, has, err := h.contentLength()
	if err != nil {
		return err
	}
	switch {
	case chunked && has:
		return badRequest("the response has both Transfer-Encoding and Content-Length")
	case toHead || h.status < 200 || h.status == 204 || h.status == 304:
		h.framing = framing{}
	case chunked:
		h.framing = framing{kind: bodyChunked}
	case has && length > 0:
		h.framing = framing{kind: bodyLength, length: length}
	case has:
		h.framing = framing{}
	default:
		h.framing = framing{kind: bodyUntilClose}
		h.close = true
	}
	return nil
}

// transferEncoding accepts exactly one coding, chunked.
func (h *head) transferEncoding() (chunked bool, err error) {
	if !h.has(fieldTransferEncoding) {
		return false, nil
	}
	if h.minor == 0 {
		return false, badRequest("an HTTP/1.0 message has a Transfer-Encoding")
	}
	if h.count(fieldTransferEncoding) > 1 {
		return false, badRequest("the message has more than one Transfer-Encoding field")
	}
	list := h.get(fieldTransferEncoding)
	if equalLower(list, "chunked") {
		return true, nil
	}
	// A request whose last coding is another has no end that could be known (RFC 9112 section 6.3).
	if i := bytes.LastIndexByte(list, ','); i < 0 || !equalLower(bytes.Trim(list[i+1:], " \t"), "chunked") {
		return false, badRequest("the last transfer coding is not chunked")
	}
	return false, &parseError{501, "the only transfer coding spoken here is chunked"}
}

// contentLength accepts at most one Content-Length field of plain digits.
func (h *head) contentLength() (n int64, has bool, err error) {
	if !h.has(fieldContentLength) {
		return 0, false, nil
	}
	if h.count(fieldContentLength) > 1 {
		return 0, false, badRequest("the message has more than one Content-Length field")
	}
	v := h.get(fieldContentLength)
	if len(v) == 0 || len(v) > 18 {
		return 0, false, badRequest("the Content-Length is empty or too large")
	}
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, false, badRequest("the Content-Length is not a plain number")
		}
		n = n*10 + int64(c-'0')
	}
	return n, true, nil
}

// readConnection marks hop-by-hop fields (RFC 9110 section 7.6.1) as dropped and learns what the sender asked
// for. Fields that frame or address the message cannot be nominated away.
func (h *head) readConnection() error {
	h.close = h.minor == 0
	namesUpgrade := false
	if h.has(fieldConnection) {
		for i := range h.fields {
			if h.fields[i].id != fieldConnection {
				continue
			}
			for list := h.value(&h.fields[i]); len(list) > 0; {
				var token []byte
				token, list = cutToken(list)
				switch {
				case len(token) == 0:
				case equalLower(token, "close"):
					h.close = true
				case equalLower(token, "keep-alive"):
					if h.minor == 0 {
						h.close = false
					}
				case equalLower(token, "upgrade"):
					namesUpgrade = true
				default:
					h.dropNominated(token)
				}
			}
		}
	}
	h.upgrade = namesUpgrade && h.has(fieldUpgrade) && h.minor == 1
	if te := h.get(fieldTE); te != nil {
		h.trailersOK = hasToken(te, "trailers")
	}
	for _, id := range [...]fieldID{fieldConnection, fieldKeepAlive, fieldProxyConnection, fieldTE, fieldUpgrade, fieldHTTP2Settings} {
		h.dropID(id)
	}
	return nil
}

func (h *head) dropNominated(token []byte) {
	for i := range h.fields {
		f := &h.fields[i]
		switch f.id {
		case fieldHost, fieldContentLength, fieldTransferEncoding, fieldExpect, fieldXFCC, fieldRequestID:
			continue
		}
		if bytes.EqualFold(h.name(f), token) {
			f.drop = true
		}
	}
}

// cutToken splits a comma-separated list after its first member, without the space around it.
func cutToken(list []byte) (token, rest []byte) {
	token = list
	if i := bytes.IndexByte(list, ','); i >= 0 {
		token, rest = list[:i], list[i+1:]
	}
	return bytes.Trim(token, " \t"), rest
}

func hasToken(list []byte, lower string) bool {
	for len(list) > 0 {
		var token []byte
		token, list = cutToken(list)
		if equalLower(token, lower) {
			return true
		}
	}
	return false
}
