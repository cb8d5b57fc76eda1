package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Limits of the control plane's HTTP servers: the webhooks, monitoring,
// readiness. Whoever reaches the port is held to them, proven or not.
const (
	// httpHeaderTime is for the TLS handshake and the head of a request.
	httpHeaderTime = 10 * time.Second
	// httpBodyTime is for the body of a request. The API server waits 30 s for
	// a webhook at most (admissionregistration.k8s.io/v1, timeoutSeconds).
	httpBodyTime = 30 * time.Second
	// httpWriteTime is for an answer. A profile of the processor takes as long
	// as its caller says; net/http/pprof refuses what does not fit.
	httpWriteTime = 2 * time.Minute
	// httpIdleTime is how long a connection waits for its next request. The
	// API server keeps its connections to webhooks.
	httpIdleTime = 2 * time.Minute
	// httpHeaderBytes bounds the head of a request, a bearer token included.
	httpHeaderBytes = 32 << 10
	// httpBodyBytes bounds the body of a request. The webhooks have a limit
	// of their own below it; nothing else takes a body.
	httpBodyBytes = 16 << 20
)

// newHTTPServer makes a server with the limits above. It speaks HTTP/1.1 alone:
// nothing that calls the control plane over HTTP needs more, and a fault in
// HTTP/2 of net/http has once been enough to end the process from outside.
func newHTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)

	return &http.Server{
		Handler:           bodyWithin(httpBodyTime, http.MaxBytesHandler(onlyHTTP1(h), httpBodyBytes)),
		Protocols:         protocols,
		ReadHeaderTimeout: httpHeaderTime,
		WriteTimeout:      httpWriteTime,
		IdleTimeout:       httpIdleTime,
		MaxHeaderBytes:    httpHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// bodyWithin gives callers that send a body some time for it. The others get no
// deadline: net/http goes on reading while the handler works, and would end what
// takes longer, such as a profile. That is why ReadTimeout is not used.
func bodyWithin(limit time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			// A writer without deadlines, as in tests, has nobody to wait for.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(limit))
		}
		next.ServeHTTP(w, r)
	})
}

// onlyHTTP1 refuses the preface of HTTP/2 (RFC 9113, section 3.4), which net/http
// hands to the handler like a request when it does not speak HTTP/2 itself.
func onlyHTTP1(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 {
			http.Error(w, "only HTTP/1.1 is spoken here", http.StatusHTTPVersionNotSupported)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// serveHTTP serves until ctx ends and the calls that are under way then are
// answered, or the time for that is over. A listener that is nil is not served.
func (s *Server) serveHTTP(ctx context.Context, l net.Listener, h http.Handler) error {
	if l == nil {
		return nil
	}
	srv := newHTTPServer(h, s.log)

	drained := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(drained)
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Drain)
		defer cancel()
		if srv.Shutdown(late) != nil {
			_ = srv.Close()
		}
	})

	err := srv.Serve(l)
	if !stop() {
		// Serve ends when Shutdown begins, and not when it is done: the
		// process would end with calls of the API server unanswered.
		<-drained
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}
