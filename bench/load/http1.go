package load

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// http1 sends the same request each time, and expects a response with a
// Content-Length.
type http1 struct {
	wire     []byte
	wantBody int

	busy bool
	due  time.Duration
	head []byte // head read so far, while it is incomplete
	body int    // bytes of the body still to come; -1 while in the head
}

func newHTTP1(spec *Spec) *http1 {
	method, length := "GET", ""
	if len(spec.Body) > 0 {
		method, length = "POST", fmt.Sprintf("Content-Length: %d\r\n", len(spec.Body))
	}
	wire := fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\n%s\r\n%s",
		method, spec.Path, spec.Authority, length, spec.Body)
	return &http1{wire: wire, wantBody: spec.WantBody, body: -1}
}

func (h *http1) hello() []byte { return nil }

func (h *http1) free() int {
	if h.busy {
		return 0
	}
	return 1
}

func (h *http1) request(out []byte, due time.Duration) []byte {
	h.busy, h.due = true, due
	return append(out, h.wire...)
}

func (h *http1) input(data, out []byte, done func(time.Duration)) ([]byte, error) {
	if !h.busy {
		return out, fmt.Errorf("%d bytes that no request asked for", len(data))
	}
	if h.body < 0 {
		if len(h.head) > 0 {
			h.head = append(h.head, data...)
			data = h.head
		}
		end := bytes.Index(data, []byte("\r\n\r\n"))
		if end < 0 {
			if len(h.head) == 0 {
				h.head = append(h.head, data...)
			}
			return out, nil
		}
		if err := h.checkHead(data[:end+2]); err != nil {
			return out, fmt.Errorf("%w: %.300q", err, data)
		}
		data, h.body = data[end+4:], h.wantBody
	}
	if len(data) > h.body {
		return out, fmt.Errorf("%d bytes after the end of the body", len(data)-h.body)
	}
	if h.body -= len(data); h.body == 0 {
		h.busy, h.body, h.head = false, -1, h.head[:0]
		done(h.due)
	} else {
		h.head = h.head[:0]
	}
	return out, nil
}

// checkHead wants status 200 and the expected length.
func (h *http1) checkHead(head []byte) error {
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) {
		return errors.New("answer is not 200")
	}
	for line := range bytes.Lines(head) {
		const name = "content-length:"
		if len(line) <= len(name) || !bytes.EqualFold(line[:len(name)], []byte(name)) {
			continue
		}
		n, err := strconv.Atoi(string(bytes.TrimSpace(line[len(name):])))
		if err != nil || n != h.wantBody {
			return fmt.Errorf("want a body of %d bytes", h.wantBody)
		}
		return nil
	}
	return errors.New("answer has no Content-Length")
}
