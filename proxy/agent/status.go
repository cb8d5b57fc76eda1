package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
)

// Addresses are where the agent listens. DNS is empty when it answers none.
type Addresses struct{ Status, Health, Metrics, Admin, DNS string }

// servers are the agent's HTTP servers.
type servers struct {
	list      []*http.Server
	listeners []net.Listener
}

// Addresses waits until the agent listens, and tells where.
func (a *Agent) Addresses(ctx context.Context) (Addresses, error) {
	select {
	case <-a.open:
		return *a.addrs.Load(), nil
	case <-ctx.Done():
		return Addresses{}, ctx.Err()
	}
}

// listen opens all ports before anything starts, so that a port in use is an
// error at once.
func (a *Agent) listen() (*servers, error) {
	p := a.cfg.Ports
	s := &servers{}
	addrs := &Addresses{}
	for _, l := range []struct {
		what, host string
		port       uint16
		handler    http.Handler
		addr       *string
	}{
		{"status", p.Host, p.Status, a.statusHandler(), &addrs.Status},
		{"health", p.Host, p.Health, a.healthHandler(), &addrs.Health},
		{"metrics", p.Host, p.Metrics, a.metricsHandler(), &addrs.Metrics},
		{"admin", "127.0.0.1", p.Admin, a.adminHandler(), &addrs.Admin},
	} {
		lis, err := net.Listen("tcp", net.JoinHostPort(l.host, strconv.Itoa(int(l.port))))
		if err != nil {
			s.close()
			return nil, fmt.Errorf("agent: open the %s port: %w", l.what, err)
		}
		*l.addr = lis.Addr().String()
		s.listeners = append(s.listeners, newNewestFirst(lis, maxCallers))
		s.list = append(s.list, newServer(l.handler))
	}

	if a.names != nil {
		addrs.DNS = a.names.server.Addr().String()
	}
	a.addrs.Store(addrs)
	close(a.open)
	return s, nil
}

// maxBody bounds a request's body in bytes: there is nothing to send but a form.
const maxBody = 64 << 10

// newServer makes a server that nobody can hold up by being slow or large. It
// speaks HTTP/1.1 alone; nothing that asks here needs more.
func newServer(h http.Handler) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)

	return &http.Server{
		Handler:           boundBody(http.MaxBytesHandler(h, maxBody)),
		Protocols:         protocols,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    32 << 10,
	}
}

func (s *servers) close() {
	for _, l := range s.listeners {
		l.Close()
	}
}

// run serves until ctx ends.
func (s *servers) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for i, srv := range s.list {
		g.Go(func() error {
			if err := srv.Serve(s.listeners[i]); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("agent: serve %s: %w", s.listeners[i].Addr(), err)
			}
			return nil
		})
		g.Go(func() error {
			<-ctx.Done()
			return srv.Close()
		})
	}
	return g.Wait()
}

// healthHandler is port 15021.
func (a *Agent) healthHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz/ready", a.serveReady)
	return mux
}

// metricsHandler is port 15090.
func (a *Agent) metricsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /stats/prometheus", a.metrics())
	return mux
}

func (a *Agent) metrics() http.Handler {
	return readInTime(promhttp.HandlerFor(a.cfg.Registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
}

// readTime is how long a scraper may take to read its answer.
const readTime = time.Minute

// readInTime ends connections whose client does not read what it asked for.
func readInTime(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A writer without deadlines, as in tests, has nobody to wait for.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(readTime))
		next.ServeHTTP(w, r)
	})
}

// statusHandler is port 15020, which the kubelet and scrapers reach. What
// changes something is taken only from the pod itself.
func (a *Agent) statusHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz/ready", a.serveReady)
	app := newProbes(a.cfg.IP, a.cfg.Probers, a.cfg.Kind == Sidecar)
	mux.Handle("GET /stats/prometheus", readInTime(a.mergedMetrics(app)))
	mux.Handle("GET /metrics", a.metrics())
	mux.Handle("GET /app-health/", app)
	mux.Handle("GET "+hookPath, app)
	mux.HandleFunc("GET /application-stops", a.serveStopDelay)
	mux.Handle("POST /quitquitquit", localOnly(http.HandlerFunc(a.serveQuit)))
	mux.Handle("POST /drain", localOnly(http.HandlerFunc(a.serveDrain)))
	return mux
}

// serveReady answers 200, or 503 with what is in the way.
func (a *Agent) serveReady(w http.ResponseWriter, _ *http.Request) {
	if err := a.Ready(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

func (a *Agent) serveQuit(w http.ResponseWriter, _ *http.Request) {
	a.Quit()
	fmt.Fprintln(w, "ending")
}

// serveDrain makes the proxy not ready and lets connections end, and leaves it
// running.
func (a *Agent) serveDrain(w http.ResponseWriter, _ *http.Request) {
	a.beginDrain()
	fmt.Fprintln(w, "draining")
}

// serveStopDelay answers after a while: the kubelet asks before it tells the
// application to end (see package inject). It changes nothing, whoever asks.
func (a *Agent) serveStopDelay(_ http.ResponseWriter, r *http.Request) {
	delay := time.NewTimer(a.cfg.StopDelay)
	defer delay.Stop()
	select {
	case <-delay.C:
	case <-r.Context().Done():
	}
}

// localOnly refuses callers from outside the pod. What the proxy itself passes
// on to the pod's applications comes from a loopback address, too, and is from
// outside.
func localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		ip := from.Addr().Unmap()
		if err != nil || !ip.IsLoopback() || ip == inboundSource(ip) {
			http.Error(w, "only from inside the pod, by a loopback address", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// inboundSource is the address from which the proxy connects to applications of
// its pod, in the family of an address: redirection lets it through.
func inboundSource(like netip.Addr) netip.Addr {
	if like.Is4() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 6})
	}
	return netip.MustParseAddr("::6")
}
