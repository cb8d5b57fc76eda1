package agent

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

const (
	// scrapeLimit bounds what is taken of the application's metrics, in bytes.
	// They are passed on as they come and not held.
	scrapeLimit = 64 << 20
	// scrapeTimeout is how long the application may take where the scraper
	// does not say how long it waits itself.
	scrapeTimeout = 10 * time.Second
)

// Scrape says where the application's own metrics are.
type Scrape struct {
	Path  string
	Port  Port
	HTTPS bool
}

// ParseScrape reads what injection made of the pod's prometheus.io annotations;
// nil when it is empty.
func ParseScrape(s string) (*Scrape, error) {
	if s == "" {
		return nil, nil
	}

	var in struct {
		Scrape string `json:"scrape"`
		Path   string `json:"path"`
		Port   Port   `json:"port"`
		Scheme string `json:"scheme"`
	}

	dec := json.NewDecoder(strings.NewReader(s))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return nil, fmt.Errorf("application metrics: %w", err)
	}

	switch {
	case in.Scrape != "true":
		return nil, nil
	case in.Port == 0:
		return nil, errors.New("application metrics: port is missing")
	case in.Scheme != "" && in.Scheme != "http" && in.Scheme != "https":
		return nil, fmt.Errorf("application metrics: scheme %q: want http or https", in.Scheme)
	}

	if !strings.HasPrefix(in.Path, "/") {
		in.Path = "/" + in.Path
	}
	return &Scrape{Path: in.Path, Port: in.Port, HTTPS: in.Scheme == "https"}, nil
}

// merged serves the application's metrics and the proxy's in one answer. When
// one of them fails the other is still given.
type merged struct {
	app      *Scrape
	reach    *probes
	own      prometheus.Gatherer
	alone    http.Handler // the proxy's metrics
	failures prometheus.Counter
	failing  atomic.Bool // the last scrape of the application failed
	log      func(msg string, args ...any)
}

// mergedMetrics is the page that scrapers are led to.
func (a *Agent) mergedMetrics(reach *probes) http.Handler {
	if a.cfg.Scrape == nil {
		return a.metrics()
	}

	m := &merged{
		app: a.cfg.Scrape, reach: reach, own: a.cfg.Registry, alone: a.metrics(), log: a.log.Warn,
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "isthmus_proxy_application_scrape_failures_total",
			Help: "Scrapes of the application's own metrics that failed; the answer then holds the proxy's alone.",
		}),
	}
	a.cfg.Registry.MustRegister(m.failures)
	return m
}

// ServeHTTP implements http.Handler.
func (m *merged) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), patienceOf(r))
	defer cancel()

	resp, format, err := m.ask(ctx, r)
	if err != nil {
		m.note(err)
		m.alone.ServeHTTP(w, r)
		return
	}
	defer resp.Body.Close()

	w.Header().Set("Content-Type", string(format))
	names, err := passOn(w, io.LimitReader(resp.Body, scrapeLimit+1))
	m.note(err)
	_ = m.writeOwn(w, format, names) // the scraper has gone
}

// note counts failures, and tells of the first of a row.
func (m *merged) note(err error) {
	if err == nil {
		m.failing.Store(false)
		return
	}
	m.failures.Inc()
	if !m.failing.Swap(true) {
		m.log("the application's own metrics cannot be scraped; the proxy's are given alone until they can", "port", m.app.Port, "path", m.app.Path, "error", err)
	}
}

// patienceOf is how long a scraper waits, less a little for the way back.
func patienceOf(r *http.Request) time.Duration {
	s, err := strconv.ParseFloat(r.Header.Get("X-Prometheus-Scrape-Timeout-Seconds"), 64)
	if err != nil || s <= 0 || s > 600 {
		return scrapeTimeout
	}
	return time.Duration(s * 0.9 * float64(time.Second))
}

// ask requests the application's metrics in the format that the scraper wants,
// as far as it is a text one: two answers in protobuf cannot be told apart from
// one with doubled families.
func (m *merged) ask(ctx context.Context, r *http.Request) (*http.Response, expfmt.Format, error) {
	scheme := "http"
	if m.app.HTTPS {
		scheme = "https"
	}

	url := scheme + "://" + m.reach.address(m.app.Port) + m.app.Path
	if q := r.URL.RawQuery; q != "" && !strings.Contains(url, "?") {
		url += "?" + q
	}

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, "", err
	}

	// Text unless the scraper itself prefers OpenMetrics: its answer is to be
	// read by the scraper, and only by it.
	req.Header.Set("Accept", "text/plain;version=0.0.4;q=0.9,*/*;q=0.1")
	if expfmt.NegotiateAccept(r.Header, expfmt.DefaultOpenMetricsAcceptedFormats()...).FormatType() == expfmt.TypeOpenMetrics {
		req.Header.Set("Accept", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.9,*/*;q=0.1")
	}
	for _, h := range []string{"User-Agent", "X-Prometheus-Scrape-Timeout-Seconds"} {
		req.Header.Set(h, r.Header.Get(h))
	}

	client := &http.Client{CheckRedirect: sameHost, Transport: &http.Transport{
		DialContext:       m.reach.dial,
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // it does not leave the pod
	}}

	resp, err := client.Do(req)
	if err != nil {
		return nil, "", err
	}

	format, err := formatOf(resp)
	if err != nil {
		resp.Body.Close()
		return nil, "", err
	}
	return resp, format, nil
}

// formatOf tells in which text format an answer is.
func formatOf(resp *http.Response) (expfmt.Format, error) {
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the application answers %s", resp.Status)
	}

	kind := resp.Header.Get("Content-Type")
	media, _, err := mime.ParseMediaType(kind)
	switch {
	case kind == "", err == nil && media == "text/plain":
		return expfmt.NewFormat(expfmt.TypeTextPlain), nil
	case err == nil && media == "application/openmetrics-text":
		return expfmt.NewOpenMetricsFormat(expfmt.OpenMetricsVersion_1_0_0)
	}
	return "", fmt.Errorf("the application answers with content of type %q: want text/plain or application/openmetrics-text", kind)
}

var endOfMetrics = []byte("# EOF") // OpenMetrics: nothing comes after it

// passOn copies an exposition without its end mark, and returns the names of the
// families and samples in it. What comes before an error was written, to the end
// of a line.
func passOn(w io.Writer, body io.Reader) (map[string]bool, error) {
	names := map[string]bool{}
	in := bufio.NewReaderSize(body, 64<<10)
	for total := 0; ; {
		line, err := in.ReadSlice('\n')
		total += len(line)
		switch {
		case total > scrapeLimit:
			return names, fmt.Errorf("the application's metrics are longer than %d MiB: the rest is left out", scrapeLimit>>20)
		case errors.Is(err, bufio.ErrBufferFull):
			return names, fmt.Errorf("a line of the application's metrics is longer than %d KiB: it and the rest are left out", in.Size()>>10)
		case err != nil && !errors.Is(err, io.EOF):
			return names, fmt.Errorf("the application's metrics break off: %w", err)
		}

		text := bytes.TrimRight(line, "\r\n")
		if len(text) > 0 && !bytes.Equal(text, endOfMetrics) {
			if name := nameIn(text); len(name) > 0 && !names[string(name)] {
				names[string(name)] = true
			}
			if _, werr := w.Write(append(text, '\n')); werr != nil {
				return names, nil // the scraper has gone: the application is not to blame
			}
		}

		if err != nil {
			return names, nil
		}
	}
}

// nameIn returns the name that a line of an exposition is about: that of a
// sample, or of the family whose metadata it is.
func nameIn(line []byte) []byte {
	if rest, ok := bytes.CutPrefix(line, []byte("# ")); ok {
		_, rest, _ = bytes.Cut(rest, []byte{' '}) // HELP, TYPE, UNIT
		name, _, _ := bytes.Cut(rest, []byte{' '})
		return name
	}

	if line[0] == '#' {
		return nil
	}
	if i := bytes.IndexAny(line, "{ \t"); i >= 0 {
		return line[:i]
	}
	return line
}

// writeOwn appends the proxy's families, without those that the application has,
// too (a Go program has go_goroutines): a family must not come twice.
func (m *merged) writeOwn(w io.Writer, format expfmt.Format, taken map[string]bool) error {
	families, err := m.own.Gather()
	if err != nil {
		m.log("some of the proxy's metrics cannot be gathered", "error", err)
	}

	enc := expfmt.NewEncoder(w, format)
	for _, f := range families {
		if doubled(f, taken) {
			continue
		}
		if err := enc.Encode(f); err != nil {
			return err
		}
	}

	if c, ok := enc.(expfmt.Closer); ok {
		return c.Close() // writes the end mark of OpenMetrics
	}
	return nil
}

// doubled tells whether a family's name is taken. OpenMetrics leaves the suffix
// _total out of a counter's family name.
func doubled(f *dto.MetricFamily, taken map[string]bool) bool {
	name := f.GetName()
	return taken[name] || taken[strings.TrimSuffix(name, "_total")]
}
