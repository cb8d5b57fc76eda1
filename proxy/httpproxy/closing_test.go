package httpproxy

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// TestUntouched: a connection that the endpoint closed before the request reached it is told from one that it closed
// after it had read the request, or a part of it.
func TestUntouched(t *testing.T) {
	const request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
	for name, tt := range map[string]struct {
		read int // how much the endpoint reads before it closes, after an earlier request
		want bool
	}{
		"closed before": {
			read: 0,
			want: true,
		},
		"read half": {
			read: len(request) / 2,
			want: false,
		},
		"read all": {
			read: len(request),
			want: false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			closed := make(chan struct{})
			addr := rawBackend(t, func(c net.Conn) {
				_, _ = io.ReadFull(c, make([]byte, len(request)+tt.read))
				_ = c.Close()
				close(closed)
			})
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			c := newH1conn(conn, nil)

			_, _ = io.WriteString(c, request) // the earlier one
			c.before = c.written.Load()
			if tt.read == 0 {
				<-closed
				time.Sleep(20 * time.Millisecond) // the end is here
			}
			if _, err := io.WriteString(c, request[:max(tt.read, 1)]); err != nil {
				t.Fatal(err)
			}
			_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
			_, err = c.in.ReadHead(nil)
			if got := c.untouched(err); got != tt.want {
				t.Errorf("%v after %v", got, err)
			}
		})
	}
}

// TestHalfClose: a caller that says that it sends nothing more and ends its side gets its answer however long that
// takes. One that might have sent more has gone, as far as anybody can tell.
func TestHalfClose(t *testing.T) {
	t.Parallel()
	given := make(chan struct{}, 1)
	addr := backend(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
			given <- struct{}{}
		case <-time.After(3*stallCheck + time.Second/2):
		}
		_, _ = io.WriteString(w, "late")
	}))
	h := simpleHop(t, config.HTTP1, addr)
	ask := func(request string) string {
		c, err := net.Dial("tcp", h.addr)
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		_, _ = io.WriteString(c, request)
		_ = c.(*net.TCPConn).CloseWrite()
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		b, _ := io.ReadAll(c)
		return string(b)
	}

	t.Run("with Connection: close", func(t *testing.T) {
		t.Parallel()
		if got := ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); !strings.HasSuffix(got, "late") {
			t.Errorf("got %q", got)
		}
	})
	t.Run("HTTP/1.0", func(t *testing.T) {
		t.Parallel()
		if got := ask("GET / HTTP/1.0\r\n\r\n"); !strings.HasSuffix(got, "late") {
			t.Errorf("got %q", got)
		}
	})
	t.Run("a connection that stays", func(t *testing.T) {
		t.Parallel()
		if got := ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n"); got != "" {
			t.Errorf("got %q", got)
		}
		select {
		case <-given:
		case <-time.After(20 * time.Second):
			t.Error("the endpoint was not told that its caller has gone")
		}
	})
}
