package machine

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/isthmus-mesh/isthmus/lab/internal/nodeconf"
)

const (
	probeEvery   = 50 * time.Millisecond
	probeTimeout = time.Second
	remindEvery  = 10 * time.Second
)

// await blocks until the probe succeeds. Every ten seconds until then it calls
// waiting with the time waited.
func await(ctx context.Context, p nodeconf.Probe, waiting func(time.Duration)) error {
	check := func(ctx context.Context) bool { return dialUnix(ctx, p.Socket) }
	if p.URL != "" {
		client, err := probeClient(p.CA)
		if err != nil {
			return err
		}
		defer client.CloseIdleConnections()
		check = func(ctx context.Context) bool { return answers(ctx, client, p.URL) }
	}

	tick, remind := time.NewTicker(probeEvery), time.NewTicker(remindEvery)
	defer tick.Stop()
	defer remind.Stop()

	for began := time.Now(); ; {
		if check(ctx) {
			return nil
		}
		select {
		case <-tick.C:
		case <-remind.C:
			waiting(time.Since(began))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func dialUnix(ctx context.Context, path string) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

func probeClient(caFile string) (*http.Client, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("read the authority for a probe: %w", err)
	}

	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", caFile)
	}
	return &http.Client{
		Timeout:   probeTimeout,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}},
	}, nil
}

func answers(ctx context.Context, client *http.Client, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
