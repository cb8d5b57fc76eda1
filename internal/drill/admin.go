package drill

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/sync/errgroup"
)

// count asks all proxies what became of calls so far.
func (p *play) count(ctx context.Context) (counted, error) {
	pages := make([]string, len(p.Clients))
	err := p.each(ctx, func(ctx context.Context, i int, c Client) (err error) {
		pages[i], err = ask(ctx, http.MethodGet, c, "/stats/prometheus")
		return err
	})
	if err != nil {
		return nil, err
	}

	out := counted{}
	for i, page := range pages {
		if err := out.read(strings.NewReader(page), i, p.Host); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Clients[i].Name, err)
		}
	}
	return out, nil
}

// fail makes the endpoints fail, or renews the lease.
func (p *play) fail(ctx context.Context) error {
	query := url.Values{"host": {p.Host}, "cluster": {p.verdict.Cluster}, "lease": {lease.String()}}
	return p.drill(ctx, query)
}

// release lets the endpoints be again.
func (p *play) release(ctx context.Context) error { return p.drill(ctx, url.Values{"lease": {"0s"}}) }

func (p *play) drill(ctx context.Context, query url.Values) error {
	return p.each(ctx, func(ctx context.Context, _ int, c Client) error {
		_, err := ask(ctx, http.MethodPost, c, "/drill?"+query.Encode())
		return err
	})
}

// each does something at all clients at once. The first that fails does not keep the
// others from being told; its error is the one returned.
func (p *play) each(ctx context.Context, do func(ctx context.Context, i int, c Client) error) error {
	var all errgroup.Group
	for i, c := range p.Clients {
		all.Go(func() error {
			if err := do(ctx, i, c); err != nil {
				return fmt.Errorf("%s: %w", c.Name, err)
			}
			return nil
		})
	}
	return all.Wait()
}

// largest bounds what is read of a page: a proxy with a hundred thousand series.
const largest = 64 << 20

// ask sends a request to a proxy's admin port.
func ask(ctx context.Context, method string, c Client, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+c.Admin+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()

	body, err := io.ReadAll(io.LimitReader(resp.Body, largest))
	switch {
	case err != nil:
		return "", err
	case resp.StatusCode != http.StatusOK:
		return "", fmt.Errorf("%s", strings.TrimSpace(string(body)))
	}
	return string(body), nil
}
