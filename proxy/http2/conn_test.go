package http2

import (
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// story is a Sink that writes down what comes.
type story struct {
	st    *Stream // of a server only: a client knows it once Open returns, when events may have come already
	lines []string
	ended chan struct{}
}

func (s *story) Headers(fields []hpack.HeaderField, end bool) {
	line := "headers"
	for _, f := range fields {
		line += " " + f.Name + "=" + f.Value
	}
	s.tell(line, end)
}

// Data gives no room back: what these tests send fits the first window.
func (s *story) Data(p []byte, end bool) { s.tell("data "+string(p), end) }

func (s *story) Reset(code http2.ErrCode, refused bool) {
	line := "reset " + code.String()
	if refused {
		line += " refused"
	}
	s.tell(line, true)
}

func (s *story) tell(line string, end bool) {
	s.lines = append(s.lines, line)
	if end {
		close(s.ended)
	}
}

func (s *story) wait(t *testing.T, want string) {
	t.Helper()
	select {
	case <-s.ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the stream does not come to its end in 10 s")
	}
	if got := strings.Join(s.lines, "\n"); got != want {
		t.Errorf("there came\n%s\nwant\n%s", got, want)
	}
}

// twoEnds joins a client and a server that begins each request with accept. Both are over when the test is.
func twoEnds(t *testing.T, accept func(*story, *Head)) (client, server *Conn) {
	near, far := net.Pipe()
	client = NewClient(near, NewHeld(), ClientOptions{})
	server = NewServer(far, NewHeld(), ServerOptions{
		NewSink: func(st *Stream) Sink { return &story{st: st, ended: make(chan struct{})} },
		Accept:  func(s Sink, h *Head) { accept(s.(*story), h) },
	})

	done := make(chan struct{}, 4)
	for _, c := range []*Conn{client, server} {
		go func() { c.WriteLoop(); done <- struct{}{} }()
		go func() { _ = c.Serve(); done <- struct{}{} }()
	}
	t.Cleanup(func() {
		_ = near.Close()
		for range 4 {
			<-done
		}
	})
	return client, server
}

var get = []hpack.HeaderField{
	{Name: ":method", Value: "GET"},
	{Name: ":scheme", Value: "http"},
	{Name: ":authority", Value: "a"},
	{Name: ":path", Value: "/"},
}

func ask(t *testing.T, c *Conn) *story {
	t.Helper()
	s := &story{ended: make(chan struct{})}
	if _, err := c.Open(get, true, s, nil, 0); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAnswer(t *testing.T) {
	client, _ := twoEnds(t, func(s *story, h *Head) {
		if !h.End || h.Fields[0].Value != "GET" {
			t.Errorf("the request came as %v", h.Fields)
		}
		s.st.SendHeaders([]hpack.HeaderField{{Name: ":status", Value: "200"}}, false)
		s.st.Send([]byte("hello"), false)
		s.st.SendTrailers([]hpack.HeaderField{{Name: "sum", Value: "1"}})
	})
	ask(t, client).wait(t, "headers :status=200\ndata hello\nheaders sum=1")
}

// TestRetire: a connection that is retired takes no more streams, and ends with the last one.
func TestRetire(t *testing.T) {
	asked := make(chan *story, 1)
	client, server := twoEnds(t, func(s *story, _ *Head) { asked <- s })
	last := ask(t, client)
	under := <-asked

	server.Retire()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, more := client.Load(); !more {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the client goes on opening streams")
		}
	}
	if _, err := client.Open(get, true, &story{}, nil, 0); err != ErrNoStreams {
		t.Errorf("one more stream: %v", err)
	}

	under.st.SendHeaders([]hpack.HeaderField{{Name: ":status", Value: "204"}}, true)
	last.wait(t, "headers :status=204")
	select {
	case <-server.done:
	case <-time.After(10 * time.Second):
		t.Error("the connection outlives its last stream by 10 s")
	}
}

// TestRequestsTakenBack: who takes its requests back at once, again and again, is sent away (CVE-2023-44487), whatever
// its requests would have been.
func TestRequestsTakenBack(t *testing.T) {
	client, server := twoEnds(t, func(*story, *Head) {})
	for range 10 * resetMost {
		st, err := client.Open(get, true, &story{ended: make(chan struct{})}, nil, 0)
		if err != nil {
			break
		}
		st.Reset(http2.ErrCodeCancel)
	}
	select {
	case <-server.done:
	case <-time.After(10 * time.Second):
		t.Fatal("it may go on")
	}
	if e := asConnectionError(server.err); e == nil || e.code != http2.ErrCodeEnhanceYourCalm {
		t.Errorf("the connection ended in %v", server.err)
	}
}
