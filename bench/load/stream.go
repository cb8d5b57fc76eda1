package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// streamChunk is how much of a stream is written at once.
const streamChunk = 256 << 10

// Stream sends size bytes over the connection and ends its half; it returns
// once the sink has told the number of bytes that it got.
func Stream(c net.Conn, size int64) (time.Duration, error) {
	start := time.Now()
	chunk := make([]byte, streamChunk)
	for i := range chunk {
		chunk[i] = byte(i * 7)
	}
	for left := size; left > 0; {
		n, err := c.Write(chunk[:min(left, streamChunk)])
		if err != nil {
			return 0, fmt.Errorf("stream: %w", err)
		}
		left -= int64(n)
	}
	half, ok := c.(interface{ CloseWrite() error })
	if !ok {
		return 0, errors.New("stream: the connection cannot end one half")
	}
	if err := half.CloseWrite(); err != nil {
		return 0, fmt.Errorf("stream: %w", err)
	}
	var got [8]byte
	if _, err := io.ReadFull(c, got[:]); err != nil {
		return 0, fmt.Errorf("stream: no answer from the sink: %w", err)
	}
	if n := int64(binary.BigEndian.Uint64(got[:])); n != size {
		return 0, fmt.Errorf("stream: the sink got %d of %d bytes", n, size)
	}
	return time.Since(start), nil
}
