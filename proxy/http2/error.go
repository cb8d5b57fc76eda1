package http2

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/net/http2"
)

// connectionFault is a connection error (RFC 9113 section 5.4.1): it ends the connection with a GOAWAY that says why.
func connectionFault(code http2.ErrCode, format string, args ...any) error {
	return &connectionError{code, fmt.Sprintf(format, args...)}
}

type connectionError struct {
	code   http2.ErrCode
	reason string
}

func (e *connectionError) Error() string { return e.code.String() + ": " + e.reason }

// streamFault is a stream error (RFC 9113 section 5.4.2): it ends one stream, and cause says why.
func streamFault(id uint32, code http2.ErrCode, format string, args ...any) error {
	return http2.StreamError{StreamID: id, Code: code, Cause: &Breach{fmt.Sprintf(format, args...)}}
}

// Breach is what the peer did against the protocol on one stream.
type Breach struct{ Reason string }

func (b *Breach) Error() string { return b.Reason }

// asConnectionError finds the connection error in err, where it is one.
func asConnectionError(err error) *connectionError {
	var own *connectionError
	var code http2.ConnectionError
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &code):
		return &connectionError{http2.ErrCode(code), "a frame is malformed"}
	}
	return nil
}

// frameError makes of what the framer says what the protocol asks for.
func frameError(h http2.FrameHeader, err error) error {
	var stream http2.StreamError
	switch {
	case errors.Is(err, http2.ErrFrameTooLarge): // RFC 9113 section 4.2
		return connectionFault(http2.ErrCodeFrameSize, "%v, of %d bytes", err, h.Length)
	case errors.Is(err, io.ErrUnexpectedEOF): // too short for its padding or its priority, or the peer is gone
		return connectionFault(http2.ErrCodeFrameSize, "a %s frame is too short", h.Type)
	case errors.As(err, &stream) && h.Type == http2.FrameHeaders:
		// The header block was not decoded: the compression state is lost.
		return connectionFault(http2.ErrCodeProtocol, "the padding of a HEADERS frame is longer than the frame")
	}
	return err
}
