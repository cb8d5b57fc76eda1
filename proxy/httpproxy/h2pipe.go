package httpproxy

import (
	"errors"
	"sync"

	nethttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/isthmus-mesh/isthmus/proxy/http2"
)

// h2pipe is a sink for who reads a stream by blocking: it keeps what came until it is asked for, within the room
// that the stream gives its peer.
type h2pipe struct {
	mu      sync.Mutex
	came    sync.Cond
	heads   [][]hpack.HeaderField // not read yet
	body    []byte                // not read yet
	spare   []byte
	bodied  bool // body data or the end came: further heads are trailers
	ended   bool
	trailed []hpack.HeaderField
	err     error
	onReset func()
	server  bool          // the head was read elsewhere: all heads are trailers
	left    *http2.Stream // set once nobody reads any more: what comes on it is dropped
}

func newH2pipe(server bool) *h2pipe {
	p := &h2pipe{server: server}
	p.came.L = &p.mu
	return p
}

func (p *h2pipe) Headers(fields []hpack.HeaderField, end bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.server || p.bodied || end && len(fields) > 0 && !fields[0].IsPseudo() {
		p.trailed = append([]hpack.HeaderField{}, cleanTrailers(fields)...)
	} else {
		p.heads = append(p.heads, append([]hpack.HeaderField{}, fields...))
	}
	p.ended = p.ended || end
	p.came.Broadcast()
}

func (p *h2pipe) Data(b []byte, end bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left != nil {
		p.left.Credit(len(b))
		return
	}
	p.body = append(p.body, b...)
	p.bodied = true
	p.ended = p.ended || end
	p.came.Broadcast()
}

// errRefused is the end of a stream on which the peer has not worked.
var errRefused = errors.New("the stream was refused")

func (p *h2pipe) Reset(code nethttp2.ErrCode, refused bool) {
	if refused {
		p.abort(errRefused)
		return
	}
	p.abort(errors.New("the stream was reset: " + code.String()))
}

// abort makes all reads fail.
func (p *h2pipe) abort(err error) {
	p.mu.Lock()
	if p.err == nil {
		p.err = err
	}
	p.came.Broadcast()
	call := p.onReset
	p.mu.Unlock()
	if call != nil {
		call()
	}
}

// head waits for the next head; last says that nothing follows it.
func (p *h2pipe) head() (fields []hpack.HeaderField, last bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.heads) == 0 {
		if p.err != nil {
			return nil, false, p.err
		}
		if p.ended || p.bodied {
			return nil, false, errors.New("a body came without a head")
		}
		p.came.Wait()
	}
	fields = p.heads[0]
	p.heads = p.heads[1:]
	return fields, p.ended && len(p.heads) == 0 && len(p.body) == 0 && p.trailed == nil, nil
}

// next waits for a piece of the body; it is valid until the next call. end says that the body is complete.
func (p *h2pipe) next() (b []byte, end bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.body) == 0 && !p.ended && p.err == nil {
		p.came.Wait()
	}
	if len(p.body) == 0 && !p.ended {
		return nil, false, p.err
	}
	b = p.body
	p.body, p.spare = p.spare[:0], b
	return b, p.ended, nil
}

// leave says that nobody will read any more of what comes on st: its room is given back.
func (p *h2pipe) leave(st *http2.Stream) {
	p.mu.Lock()
	p.left = st
	rest := len(p.body)
	p.body, p.spare = nil, nil
	p.mu.Unlock()
	st.Credit(rest)
}

// trailers returns the trailers once the body is complete.
func (p *h2pipe) trailers() []hpack.HeaderField {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.trailed
}
