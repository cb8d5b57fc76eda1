package load

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	h2FrameHead  = 9
	h2Window     = 1 << 30
	h2WindowStep = 1 << 20
)

// http2conn keeps a number of streams going on one connection. The header
// block is encoded by a real encoder, so from the second request on it refers to
// the peer's table, as that of any client does.
type http2conn struct {
	spec   *Spec
	grpc   bool
	enc    *hpack.Encoder
	block  bytes.Buffer
	dec    *hpack.Decoder
	steady []byte // the header block once it repeats
	last   []byte
	body   []byte

	nextID  uint32
	streams map[uint32]*h2stream
	spare   []*h2stream
	credit  int // bytes received since the last window update

	in      []byte // an incomplete frame
	current *h2stream
}

type h2stream struct {
	due    time.Duration
	body   int
	status string
	grpc   string
}

func newHTTP2(spec *Spec) (*http2conn, error) {
	h := &http2conn{spec: spec, grpc: spec.Protocol == GRPC, nextID: 1, streams: map[uint32]*h2stream{}}
	h.enc = hpack.NewEncoder(&h.block)
	h.dec = hpack.NewDecoder(4096, h.field)
	h.body = spec.Body
	if h.grpc {
		h.body = append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(spec.Body))), spec.Body...)
	}
	if len(h.body) > 16<<10 {
		return nil, fmt.Errorf("request body of %d bytes does not fit one frame", len(h.body))
	}
	return h, nil
}

func (h *http2conn) hello() []byte {
	var b bytes.Buffer
	b.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&b, nil)
	// Writes to a bytes.Buffer do not fail.
	_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: h2Window},
		http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	_ = f.WriteWindowUpdate(0, h2Window-65535)
	return b.Bytes()
}

func (h *http2conn) free() int { return h.spec.Streams - len(h.streams) }

func (h *http2conn) request(out []byte, due time.Duration) []byte {
	st := &h2stream{}
	if n := len(h.spare); n > 0 {
		st, h.spare = h.spare[n-1], h.spare[:n-1]
	}
	*st = h2stream{due: due}
	h.streams[h.nextID] = st
	block := h.headers()
	flags := http2.FlagHeadersEndHeaders
	if len(h.body) == 0 {
		flags |= http2.FlagHeadersEndStream
	}
	out = appendFrame(out, http2.FrameHeaders, flags, h.nextID, block)
	if len(h.body) > 0 {
		out = appendFrame(out, http2.FrameData, http2.FlagDataEndStream, h.nextID, h.body)
	}
	h.nextID += 2
	return out
}

// headers is the encoded header block. Once two in a row are the same, all
// fields are in the peer's table and the block stays as it is.
func (h *http2conn) headers() []byte {
	if h.steady != nil {
		return h.steady
	}
	h.block.Reset()
	method := "GET"
	if len(h.body) > 0 {
		method = "POST"
	}
	fields := []hpack.HeaderField{
		{Name: ":method", Value: method}, {Name: ":scheme", Value: "http"},
		{Name: ":path", Value: h.spec.Path}, {Name: ":authority", Value: h.spec.Authority},
		{Name: "user-agent", Value: "bench"},
	}
	if h.grpc {
		fields = append(fields, hpack.HeaderField{Name: "content-type", Value: "application/grpc"},
			hpack.HeaderField{Name: "te", Value: "trailers"})
	} else if len(h.body) > 0 {
		fields = append(fields, hpack.HeaderField{Name: "content-length", Value: strconv.Itoa(len(h.body))})
	}
	for _, f := range fields {
		_ = h.enc.WriteField(f) // a bytes.Buffer takes all
	}
	block := bytes.Clone(h.block.Bytes())
	if bytes.Equal(block, h.last) {
		h.steady = block
	}
	h.last = block
	return block
}

func (h *http2conn) input(data, out []byte, done func(time.Duration)) ([]byte, error) {
	if len(h.in) > 0 {
		h.in = append(h.in, data...)
		data = h.in
	}
	for len(data) >= h2FrameHead {
		n := int(data[0])<<16 | int(data[1])<<8 | int(data[2])
		if len(data) < h2FrameHead+n {
			break
		}
		var err error
		out, err = h.frame(data[:h2FrameHead], data[h2FrameHead:h2FrameHead+n], out, done)
		if err != nil {
			return out, err
		}
		data = data[h2FrameHead+n:]
	}
	h.in = append(h.in[:0], data...)
	return out, nil
}

func (h *http2conn) frame(head, body, out []byte, done func(time.Duration)) ([]byte, error) {
	flags, id := http2.Flags(head[4]), binary.BigEndian.Uint32(head[5:])&(1<<31-1)
	switch t := http2.FrameType(head[3]); t {
	case http2.FrameData:
		st := h.streams[id]
		if st == nil {
			return out, fmt.Errorf("data on stream %d, which is not open", id)
		}
		if flags.Has(http2.FlagDataPadded) {
			return out, errors.New("padded data: not expected from a proxy")
		}
		st.body += len(body)
		if h.credit += len(body); h.credit >= h2WindowStep {
			out = appendFrame(out, http2.FrameWindowUpdate, 0, 0, binary.BigEndian.AppendUint32(nil, uint32(h.credit)))
			h.credit = 0
		}
		return out, h.end(id, st, flags.Has(http2.FlagDataEndStream), done)
	case http2.FrameHeaders:
		return out, h.onHeaders(id, flags, body, done)
	case http2.FrameSettings:
		if !flags.Has(http2.FlagSettingsAck) {
			out = appendFrame(out, http2.FrameSettings, http2.FlagSettingsAck, 0, nil)
		}
	case http2.FramePing:
		if !flags.Has(http2.FlagPingAck) {
			out = appendFrame(out, http2.FramePing, http2.FlagPingAck, 0, body)
		}
	case http2.FrameWindowUpdate:
		// Requests are far smaller than the window that each frees again.
	default:
		return out, fmt.Errorf("frame %s on stream %d: %x", t, id, body)
	}
	return out, nil
}

func (h *http2conn) onHeaders(id uint32, flags http2.Flags, body []byte, done func(time.Duration)) error {
	st := h.streams[id]
	if st == nil {
		return fmt.Errorf("headers on stream %d, which is not open", id)
	}
	if !flags.Has(http2.FlagHeadersEndHeaders) || flags.Has(http2.FlagHeadersPadded) {
		return errors.New("continued or padded headers: not expected from a proxy")
	}
	if flags.Has(http2.FlagHeadersPriority) {
		body = body[5:]
	}
	h.current = st
	if _, err := h.dec.Write(body); err != nil {
		return fmt.Errorf("header block: %w", err)
	}
	if err := h.dec.Close(); err != nil {
		return fmt.Errorf("header block: %w", err)
	}
	return h.end(id, st, flags.Has(http2.FlagHeadersEndStream), done)
}

func (h *http2conn) field(f hpack.HeaderField) {
	switch f.Name {
	case ":status":
		h.current.status = f.Value
	case "grpc-status":
		h.current.grpc = f.Value
	}
}

func (h *http2conn) end(id uint32, st *h2stream, ended bool, done func(time.Duration)) error {
	if !ended {
		return nil
	}
	if st.status != "200" || (h.grpc && st.grpc != "0") || st.body != h.spec.WantBody {
		return fmt.Errorf("answer: status %s, grpc-status %q, %d bytes of body (want %d)",
			st.status, st.grpc, st.body, h.spec.WantBody)
	}
	delete(h.streams, id)
	h.spare = append(h.spare, st)
	done(st.due)
	return nil
}

func appendFrame(out []byte, t http2.FrameType, flags http2.Flags, id uint32, body []byte) []byte {
	n := len(body)
	out = append(out, byte(n>>16), byte(n>>8), byte(n), byte(t), byte(flags))
	out = binary.BigEndian.AppendUint32(out, id)
	return append(out, body...)
}
