// Package kubeapi is the little that the lab itself says to an API server: get
// an object, patch one, follow a list. It is no general client.
package kubeapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/lab/internal/nodeconf"
)

// Client talks to one API server as its administrator.
type Client struct {
	base string
	http *http.Client
	// patience bounds a call, watches excepted.
	patience time.Duration
}

// callPatience is far more than an API server that lives takes for an answer.
// One that hangs, or is behind a network that loses packets, never says so.
const callPatience = 10 * time.Second

// ReadAdmin reads the administrator's credentials among a node's files.
func ReadAdmin(configDir string) (nodeconf.Admin, error) {
	var a nodeconf.Admin
	for name, into := range map[string]*[]byte{
		nodeconf.CAFile: &a.CA, nodeconf.AdminCertFile: &a.Cert, nodeconf.AdminKeyFile: &a.Key,
	} {
		raw, err := os.ReadFile(filepath.Join(configDir, name))
		if err != nil {
			return nodeconf.Admin{}, fmt.Errorf("read the administrator's credentials: %w", err)
		}
		*into = raw
	}
	return a, nil
}

// New makes a client for the server at addr, "host:port".
func New(addr string, admin nodeconf.Admin) (*Client, error) {
	cert, err := tls.X509KeyPair(admin.Cert, admin.Key)
	if err != nil {
		return nil, fmt.Errorf("use the administrator's certificate: %w", err)
	}

	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(admin.CA) {
		return nil, errors.New("use the cluster's authority: no certificate in it")
	}
	return &Client{
		base:     "https://" + addr,
		patience: callPatience,
		http: &http.Client{Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}},
			ForceAttemptHTTP2: true,
		}},
	}, nil
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// StatusError is an answer other than success.
type StatusError struct {
	Code    int
	Message string
}

func (e *StatusError) Error() string { return fmt.Sprintf("API server: %d: %s", e.Code, e.Message) }

// IsNotFound reports whether the API server knows no such object.
func IsNotFound(err error) bool {
	var s *StatusError
	return errors.As(err, &s) && s.Code == http.StatusNotFound
}

// Get reads path into out; out may be nil.
func (c *Client) Get(ctx context.Context, path string, out any) error {
	return c.do(ctx, http.MethodGet, path, "", nil, out)
}

// MergePatch applies a JSON merge patch (RFC 7396) to the object at path.
func (c *Client) MergePatch(ctx context.Context, path string, patch any) error {
	body, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("encode a patch of %s: %w", path, err)
	}
	return c.do(ctx, http.MethodPatch, path, "application/merge-patch+json", body, nil)
}

func (c *Client) do(ctx context.Context, method, path, contentType string, body []byte, out any) error {
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	resp, err := c.send(ctx, method, path, contentType, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()

	if out == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	} else {
		err = json.NewDecoder(resp.Body).Decode(out)
	}
	if err != nil {
		return fmt.Errorf("%s %s: read the answer: %w", method, path, err)
	}
	return nil
}

// send returns a response with a successful status; its body is the caller's
// to close.
func (c *Client) send(ctx context.Context, method, path, contentType string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}

	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()

	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // the status says enough
	var status struct{ Message string }
	if json.Unmarshal(raw, &status) != nil || status.Message == "" {
		status.Message = strings.TrimSpace(string(raw))
	}
	return nil, fmt.Errorf("%s %s: %w", method, path, &StatusError{Code: resp.StatusCode, Message: status.Message})
}

// Event is a change to a followed list.
type Event[T any] struct {
	// Type is ADDED, MODIFIED, DELETED, BOOKMARK or ERROR.
	Type   string `json:"type"`
	Object T      `json:"object"`
}

// list is a Kubernetes list of T.
type list[T any] struct {
	Metadata struct {
		ResourceVersion string `json:"resourceVersion"`
	} `json:"metadata"`
	Items []T `json:"items"`
}

// Follow reads the list at path, hands it to replace, then hands each change
// to change. It returns when the connection ends or a callback fails; the
// caller starts anew.
func Follow[T any](ctx context.Context, c *Client, path string, replace func([]T) error, change func(Event[T]) error) error {
	var all list[T]
	if err := c.Get(ctx, path, &all); err != nil {
		return err
	}
	if err := replace(all.Items); err != nil {
		return err
	}

	q := url.Values{"watch": {"1"}, "resourceVersion": {all.Metadata.ResourceVersion}}
	resp, err := c.send(ctx, http.MethodGet, path+"?"+q.Encode(), "", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()

	dec := json.NewDecoder(resp.Body)
	for {
		var ev Event[T]
		if err := dec.Decode(&ev); err != nil {
			return fmt.Errorf("follow %s: %w", path, err)
		}
		if ev.Type == "ERROR" {
			return fmt.Errorf("follow %s: the API server ended the watch", path)
		}
		if err := change(ev); err != nil {
			return err
		}
	}
}
