package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"time"
)

// Times of a TCP connection (RFC 7766, section 6.2.3: a few seconds).
const (
	// streamIdle is how long a client may say nothing.
	streamIdle = 10 * time.Second
	// streamWrite is how long a client may take to read an answer.
	streamWrite = 5 * time.Second
)

// acceptStreams serves the connections of one listener.
func (s *Server) acceptStreams(ctx context.Context, l net.Listener) {
	for {
		conn, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			s.complain.Do(func() { s.log.Warn("cannot take a DNS connection", "error", err) })
			time.Sleep(pause)
			continue
		}
		s.working.Go(func() { s.serveStream(ctx, conn) })
	}
}

// stream is one TCP connection.
type stream struct {
	conn net.Conn
	// mu guards writing: answers come in the order in which they are found (RFC
	// 7766, section 6.2.1.1).
	mu  sync.Mutex
	out []byte
}

// serveStream answers queries until the client goes or says nothing for a while.
// Queries that are passed on hold nobody up; they are waited for at the end, since a
// client may close its side and still read.
func (s *Server) serveStream(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	var pending sync.WaitGroup
	defer pending.Wait()

	st := &stream{conn: conn}
	var q query
	in, out := make([]byte, 0, plainUDP), make([]byte, 0, plainUDP)
	for {
		if err := conn.SetReadDeadline(time.Now().Add(streamIdle)); err != nil {
			return
		}
		msg, err := readStream(conn, in)
		if err != nil {
			return
		}

		answer, forward := s.local(out[:0], &q, msg, streamLimit)
		if forward {
			msg := append([]byte(nil), msg...)
			pending.Add(1)
			s.begin(func(room bool) {
				defer pending.Done()
				st.write(s.forward(ctx, "tcp", msg, room))
			})
		} else if len(answer) == 0 || !st.write(answer) {
			return
		}
	}
}

// write sends one message behind its length, and tells whether that worked.
func (st *stream) write(msg []byte) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := st.conn.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil {
		return false
	}
	st.out = append(binary.BigEndian.AppendUint16(st.out[:0], uint16(len(msg))), msg...)
	_, err := st.conn.Write(st.out)
	return err == nil
}
