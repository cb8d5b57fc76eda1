package discovery

import (
	"fmt"
	"net/http"
	"net/http/pprof"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/isthmus-mesh/isthmus/model/dump"
)

// monitoring serves metrics, and what helps to find a mistake. The latter shows
// all of the mesh, and is not for everybody.
func (s *Server) monitoring() http.Handler {
	pages := http.NewServeMux()
	pages.Handle("/debug/syncz", s.xds.SyncHandler())
	pages.Handle("/debug/endpointz", dump.Endpoints(s.store))
	pages.Handle("/debug/configz", dump.Config(s.store))
	pages.HandleFunc("/debug/clusterz", func(w http.ResponseWriter, _ *http.Request) { dump.JSON(w, s.clusterStates()) })
	pages.HandleFunc("/debug/networkz", func(w http.ResponseWriter, _ *http.Request) { dump.JSON(w, s.source.Report()) })
	pages.HandleFunc("/debug/viewz", func(w http.ResponseWriter, _ *http.Request) {
		for _, key := range s.source.Views() {
			fmt.Fprintln(w, key)
		}
	})
	pages.HandleFunc("/debug/pprof/", pprof.Index)
	pages.HandleFunc("/debug/pprof/profile", pprof.Profile)
	pages.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	pages.HandleFunc("/debug/pprof/trace", pprof.Trace)

	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	mux.HandleFunc("/ready", s.answerReady)
	mux.HandleFunc("/version", serveVersion)
	mux.HandleFunc("GET "+streamsPath, s.serveStreams)
	mux.Handle("/debug/", newDebugAccess(s.cfg.Clients.Kube, s.log).guard(pages))
	return mux
}

// readiness answers the readiness probe: from the start, and with yes once
// everything is served.
func (s *Server) readiness() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/ready", s.answerReady)
	return mux
}

func (s *Server) answerReady(w http.ResponseWriter, _ *http.Request) {
	if s.stopping.Load() {
		http.Error(w, "not ready: stopping", http.StatusServiceUnavailable)
		return
	}
	if !s.served.Load() {
		http.Error(w, "not ready: the cluster is not read yet, or the certificate authority is not loaded; see the log", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}
