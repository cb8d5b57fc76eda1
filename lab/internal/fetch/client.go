// Package fetch gets files over HTTP whose SHA-256 is known beforehand. A
// download that breaks off goes on where it stopped, also in a later run; one
// that stands still is given up; nothing is handed on before its checksum is
// right. It knows nothing of what the files are.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"
)

// Limits say when a server is given up. None bounds a whole download, which may
// be slow as long as it moves.
type Limits struct {
	// Connect bounds looking up a name and connecting. It is short, because
	// until then nothing has been invested, and a firewall that swallows
	// packets shows only by it.
	Connect time.Duration
	// Answer bounds the time from connecting to the head of the answer, TLS
	// included.
	Answer time.Duration
	// Stall is the longest silence within an answer's body.
	Stall time.Duration
	// Tries is how many requests in a row may bring nothing new of a file
	// that has begun to arrive.
	Tries int
	// Pause is the wait between two of them.
	Pause time.Duration
}

// DefaultLimits suit servers on the Internet.
func DefaultLimits() Limits {
	return Limits{
		Connect: time.Second,
		Answer:  10 * time.Second,
		Stall:   20 * time.Second,
		Tries:   4,
		Pause:   2 * time.Second,
	}
}

// Client makes requests. It may be used concurrently.
type Client struct {
	http   *http.Client
	limits Limits
}

// NewClient makes a client that goes through the proxies that the environment
// names: HTTP_PROXY, HTTPS_PROXY and NO_PROXY, or the same in small letters.
// URLs may be http, https or file.
func NewClient(environ []string, limits Limits) *Client {
	proxy := proxies(environ).ProxyFunc()
	dialer := &net.Dialer{Timeout: limits.Connect}
	transport := &http.Transport{
		Proxy:                 func(r *http.Request) (*url.URL, error) { return proxy(r.URL) },
		DialContext:           dialer.DialContext,
		TLSHandshakeTimeout:   limits.Answer,
		ResponseHeaderTimeout: limits.Answer,
		ForceAttemptHTTP2:     true,
		OnProxyConnectResponse: func(_ context.Context, proxy *url.URL, asked *http.Request, answer *http.Response) error {
			if answer.StatusCode == http.StatusOK {
				return nil
			}
			return fmt.Errorf("the proxy %s answers %s to a connection to %s", proxy.Host, answer.Status, asked.Host)
		},
		// The checksum is that of the file as it lies on the server.
		DisableCompression: true,
	}

	transport.RegisterProtocol("file", http.NewFileTransport(http.Dir("/")))
	return &Client{
		http:   &http.Client{Transport: transport, CheckRedirect: checkRedirect},
		limits: limits,
	}
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// proxies reads the proxy settings out of an environment.
func proxies(environ []string) *httpproxy.Config {
	value := map[string]string{}
	for _, line := range environ {
		name, v, _ := strings.Cut(line, "=")
		if upper := strings.ToUpper(name); value[upper] == "" || name == upper {
			value[upper] = v
		}
	}

	return &httpproxy.Config{
		HTTPProxy:  value["HTTP_PROXY"],
		HTTPSProxy: value["HTTPS_PROXY"],
		NoProxy:    value["NO_PROXY"],
	}
}

// maxRedirects is the limit that net/http has by itself.
const maxRedirects = 10

// checkRedirect follows redirects, but never from https to a scheme that
// anyone on the way can change.
func checkRedirect(r *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("stopped after %d redirects", maxRedirects)
	}
	if via[0].URL.Scheme == "https" && r.URL.Scheme != "https" {
		return fmt.Errorf("redirected from https to %s, which is refused", r.URL.Redacted())
	}
	return nil
}

// ErrNotFound says that the server does not have the file.
var ErrNotFound = errors.New("not found")

// SiteError says that a server cannot be used at all now: it cannot be
// reached, or answers with an error. The next request to it would fare alike.
type SiteError struct{ Err error }

func (e *SiteError) Error() string { return e.Err.Error() }
func (e *SiteError) Unwrap() error { return e.Err }

// errStalled is the cause of a request's end when nothing came for too long.
var errStalled = errors.New("nothing arrived")

// answer is a response whose body is watched: reading from it fails when
// nothing comes for too long.
type answer struct {
	*http.Response
	limit  time.Duration
	timer  *time.Timer
	cancel context.CancelCauseFunc
	ctx    context.Context
}

// get sends a request; a non-zero offset asks for the rest of the file from
// that byte. The answer is 200 or 206, or an error.
func (c *Client) get(ctx context.Context, rawURL string, offset int64) (*answer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, rawURL, nil)
	if err != nil {
		cancel(nil)
		return nil, fmt.Errorf("ask for %s: %w", rawURL, err)
	}

	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		defer cancel(nil)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, &SiteError{plainly(err, c.limits)}
	}

	a := &answer{Response: resp, limit: c.limits.Stall, cancel: cancel, ctx: ctx}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable:
		a.timer = time.AfterFunc(a.limit, func() { cancel(errStalled) })
		return a, nil
	case http.StatusNotFound, http.StatusGone:
		err = ErrNotFound
	default:
		err = &SiteError{fmt.Errorf("%s answers %s", resp.Request.URL.Host, resp.Status)}
	}

	resp.Body.Close()
	cancel(nil)
	return nil, err
}

// plainly says in few words why a request got no answer.
func plainly(err error, limits Limits) error {
	var timeout net.Error
	var op *net.OpError
	switch {
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return fmt.Errorf("the proxy that the environment names: %w", op.Err)
	case op != nil && op.Op == "dial" && op.Timeout():
		return fmt.Errorf("no connection within %s", limits.Connect)
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("no answer within %s", limits.Answer)
	}

	var asked *url.Error
	if errors.As(err, &asked) {
		return asked.Err
	}
	return err
}

// Read reads the body.
func (a *answer) Read(p []byte) (int, error) {
	n, err := a.Body.Read(p)
	if n > 0 {
		a.timer.Reset(a.limit)
	}
	if err != nil && err != io.EOF && a.ctx.Err() != nil {
		err = context.Cause(a.ctx)
	}
	if err == errStalled {
		err = fmt.Errorf("%w for %s", errStalled, a.limit)
	}
	return n, err
}

// Close ends the request.
func (a *answer) Close() {
	a.timer.Stop()
	a.Body.Close()
	a.cancel(nil)
}

// maxSmall bounds what Small returns, in bytes.
const maxSmall = 1 << 20

// Small returns a small file, such as a list of checksums.
func (c *Client) Small(ctx context.Context, rawURL string) ([]byte, error) {
	a, err := c.get(ctx, rawURL, 0)
	if err != nil {
		return nil, err
	}
	defer a.Close()

	raw, err := io.ReadAll(io.LimitReader(a, maxSmall+1))
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, &SiteError{err}
	}
	if len(raw) > maxSmall {
		return nil, &SiteError{fmt.Errorf("%s sends more than %d bytes where a list of checksums should be", a.Request.URL.Host, maxSmall)}
	}
	return raw, nil
}
