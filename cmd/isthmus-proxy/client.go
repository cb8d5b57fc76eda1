package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// runWait polls readiness. It is what holdApplicationUntilProxyStarts runs.
func runWait(ctx context.Context, c *call) error {
	url := c.flags.String("url", "http://127.0.0.1:15021/healthz/ready", "what to ask")
	timeout := c.flags.Duration("timeout", time.Minute, "how long to wait")
	period := c.flags.Duration("period", 100*time.Millisecond, "how often to ask")
	if err := c.parse(0); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	var last string
	for {
		code, body, err := ask(ctx, http.MethodGet, *url)
		switch {
		case err == nil && code == http.StatusOK:
			return nil
		case err == nil:
			last = strings.TrimSpace(body)
		case ctx.Err() == nil:
			last = err.Error()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the proxy was not ready after %s: %s", *timeout, last)
		case <-time.After(*period):
		}
	}
}

// runRequest speaks to the administration port.
func runRequest(ctx context.Context, c *call) error {
	base := c.flags.String("url", "http://127.0.0.1:15000", "the administration port")
	timeout := c.flags.Duration("timeout", 30*time.Second, "how long to wait")
	if err := c.parse(2); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	path := c.flags.Arg(1)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	code, body, err := ask(ctx, strings.ToUpper(c.flags.Arg(0)), *base+path)
	if err != nil {
		return err
	}
	fmt.Fprint(c.out, body)
	if code >= 400 {
		return fmt.Errorf("%s %s: %d %s", strings.ToUpper(c.flags.Arg(0)), path, code, http.StatusText(code))
	}
	return nil
}

func ask(ctx context.Context, method, url string) (code int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return 0, "", err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data), err
}
