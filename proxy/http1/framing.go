package http1

import "bytes"

// count returns how many fields carry id.
func (h *Head) count(id FieldID) int {
	n := 0
	for i := range h.Fields {
		if h.Fields[i].ID == id {
			n++
		}
	}
	return n
}

// checkRequest decides the framing of a request and refuses what is ambiguous.
func (h *Head) checkRequest() error {
	switch host := h.has(FieldHost); {
	case h.repeated.holds(FieldHost):
		return badRequest("the request has %d Host fields", h.count(FieldHost))
	case !host && h.Minor == 1:
		return badRequest("the request has no Host field")
	case host && !IsAuthority(h.Get(FieldHost)):
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
		h.Framing = Framing{Kind: BodyChunked}
	case has && length > 0:
		h.Framing = Framing{Kind: BodyLength, Length: length}
	}
	return nil
}

// checkResponse decides the framing of a response (RFC 9112 section 6.3).
func (h *Head) checkResponse(toHead bool) error {
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
	case toHead || h.Status < 200 || h.Status == 204 || h.Status == 304:
		h.Framing = Framing{}
	case chunked:
		h.Framing = Framing{Kind: BodyChunked}
	case has && length > 0:
		h.Framing = Framing{Kind: BodyLength, Length: length}
	case has:
		h.Framing = Framing{}
	default:
		h.Framing = Framing{Kind: BodyUntilClose}
		h.Close = true
	}
	return nil
}

// transferEncoding accepts exactly one coding, chunked.
func (h *Head) transferEncoding() (chunked bool, err error) {
	if !h.has(FieldTransferEncoding) {
		return false, nil
	}
	if h.Minor == 0 {
		return false, badRequest("an HTTP/1.0 message has a Transfer-Encoding")
	}
	if h.repeated.holds(FieldTransferEncoding) {
		return false, badRequest("the message has more than one Transfer-Encoding field")
	}
	list := h.Get(FieldTransferEncoding)
	if EqualLower(list, "chunked") {
		return true, nil
	}
	// A request whose last coding is another has no end that could be known (RFC 9112 section 6.3).
	if i := bytes.LastIndexByte(list, ','); i < 0 || !EqualLower(bytes.Trim(list[i+1:], " \t"), "chunked") {
		return false, badRequest("the last transfer coding is not chunked")
	}
	return false, &SyntaxError{501, "the only transfer coding spoken here is chunked"}
}

// contentLength accepts at most one Content-Length field of plain digits.
func (h *Head) contentLength() (n int64, has bool, err error) {
	if !h.has(FieldContentLength) {
		return 0, false, nil
	}
	if h.repeated.holds(FieldContentLength) {
		return 0, false, badRequest("the message has more than one Content-Length field")
	}
	v := h.Get(FieldContentLength)
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

// hopByHop are the fields that end at this hop.
const hopByHop fieldSet = 1<<FieldConnection | 1<<FieldKeepAlive | 1<<FieldProxyConnection | 1<<FieldTE |
	1<<FieldUpgrade | 1<<FieldHTTP2Settings

// readConnection marks hop-by-hop fields (RFC 9110 section 7.6.1) as dropped and learns what the sender asked
// for. Fields that frame or address the message cannot be nominated away.
func (h *Head) readConnection() error {
	h.Close = h.Minor == 0
	if h.there&hopByHop == 0 {
		return nil
	}
	namesUpgrade := false
	if h.has(FieldConnection) {
		for i := range h.Fields {
			if h.Fields[i].ID == FieldConnection && h.readOptions(h.Value(&h.Fields[i])) {
				namesUpgrade = true
			}
		}
	}

	h.Upgrade = namesUpgrade && h.has(FieldUpgrade) && h.Minor == 1
	if te := h.Get(FieldTE); te != nil {
		h.TrailersOK = hasToken(te, "trailers")
	}

	for i := range h.Fields {
		if f := &h.Fields[i]; hopByHop.holds(f.ID) {
			h.Omit(f)
		}
	}
	return nil
}

// readOptions takes the options of one Connection field, and reports whether upgrade is among them.
func (h *Head) readOptions(list []byte) (namesUpgrade bool) {
	for len(list) > 0 {
		var option []byte
		option, list = cutToken(list)
		switch {
		case len(option) == 0:
		case EqualLower(option, "close"):
			h.Close = true
		case EqualLower(option, "keep-alive"):
			if h.Minor == 0 {
				h.Close = false
			}
		case EqualLower(option, "upgrade"):
			namesUpgrade = true
		default:
			h.dropNominated(option)
		}
	}
	return namesUpgrade
}

func (h *Head) dropNominated(token []byte) {
	for i := range h.Fields {
		f := &h.Fields[i]
		switch f.ID {
		case FieldHost, FieldContentLength, FieldTransferEncoding, FieldExpect, FieldXFCC, FieldRequestID:
			continue
		}
		if bytes.EqualFold(h.Name(f), token) {
			h.Omit(f)
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
		if EqualLower(token, lower) {
			return true
		}
	}
	return false
}
