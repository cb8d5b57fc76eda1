package agent

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/isthmus-mesh/isthmus/version"
)

// adminHandler is port 15000, on loopback.
func (a *Agent) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", serveAdminIndex)
	mux.HandleFunc("GET /config_dump", serveJSON(a.engine.ConfigDump))
	mux.HandleFunc("GET /clusters", serveJSON(a.engine.ClusterDump))
	mux.HandleFunc("GET /listeners", serveJSON(a.engine.ListenerDump))
	mux.HandleFunc("GET /dns", serveJSON(a.dnsDump))
	mux.HandleFunc("GET /certs", serveJSON(a.certs))
	mux.HandleFunc("GET /server_info", serveJSON(a.info))
	mux.HandleFunc("GET /ready", a.serveReady)
	mux.Handle("GET /stats/prometheus", a.metrics())
	mux.HandleFunc("GET /logging", a.serveLogging)

	mux.HandleFunc("POST /logging", a.serveLogging)
	mux.HandleFunc("POST /drain", a.serveDrain)
	mux.HandleFunc("POST /drill", a.serveDrill)
	mux.HandleFunc("POST /quitquitquit", a.serveQuit)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

func serveAdminIndex(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprint(w, `GET  /config_dump       the configuration in force
GET  /clusters          clusters, their endpoints, and what part of the load each gets
GET  /listeners         listeners
GET  /dns               names that are answered here, and who is asked for the others
GET  /certs             certificate and trust bundle
GET  /server_info       who this is, and how it stands with discovery
GET  /ready             whether it can carry traffic
GET  /stats/prometheus  metrics
GET  /logging           log level; POST /logging?level=debug|info|warn|error sets it
POST /drain             not ready any more; connections from outside are asked to end
POST /drill         ?host=HOST&cluster=CLUSTER&lease=10s: fails a host's endpoints in a cluster, for this
                    proxy alone, until the lease is over; 15s at most, to be renewed; 0s ends it
POST /quitquitquit      drain and end
GET  /debug/pprof/      profiles
`)
}

func serveJSON(value func() any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		data, err := json.MarshalIndent(value(), "", "  ")
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(append(data, '\n')) // the client has gone
	}
}

// certInfo is one certificate on the page /certs.
type certInfo struct {
	Subject   string    `json:"subject,omitempty"`
	Issuer    string    `json:"issuer"`
	Serial    string    `json:"serial"`
	URIs      []string  `json:"uris,omitempty"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
}

func describe(c *x509.Certificate) certInfo {
	out := certInfo{
		Subject: c.Subject.String(), Issuer: c.Issuer.String(), Serial: fmt.Sprintf("%x", c.SerialNumber),
		NotBefore: c.NotBefore, NotAfter: c.NotAfter,
	}
	for _, u := range c.URIs {
		out.URIs = append(out.URIs, u.String())
	}
	return out
}

func (a *Agent) certs() any {
	var out struct {
		Identity string     `json:"identity"`
		Chain    []certInfo `json:"chain"`
		Roots    []certInfo `json:"roots"`
		Error    string     `json:"error,omitempty"`
	}

	out.Identity = a.id.ID().String()
	if cert := a.id.Certificate(); cert != nil {
		for _, raw := range cert.Certificate {
			if c, err := x509.ParseCertificate(raw); err == nil {
				out.Chain = append(out.Chain, describe(c))
			}
		}
	}

	if b := a.id.Bundle(); b != nil {
		for _, c := range b.Certs {
			out.Roots = append(out.Roots, describe(c))
		}
	}
	if err := a.id.Err(); err != nil {
		out.Error = err.Error()
	}
	return out
}

func (a *Agent) info() any {
	s := a.xds.Status()
	var out struct {
		Node        string    `json:"node"`
		Version     string    `json:"version"`
		Identity    string    `json:"identity"`
		Discovery   string    `json:"discovery"`
		Connected   bool      `json:"connected"`
		Since       time.Time `json:"since,omitzero"`
		Updated     time.Time `json:"updated,omitzero"`
		Error       string    `json:"error,omitempty"`
		Rejected    string    `json:"rejected,omitempty"`
		NotReady    string    `json:"notReady,omitempty"`
		Connections int64     `json:"connections"`
	}

	out.Node, out.Version, out.Identity, out.Discovery = a.cfg.nodeID(), version.Version, a.id.ID().String(), a.cfg.Discovery
	out.Connected, out.Since, out.Updated = s.Connected, s.Since, s.Updated
	out.Connections = a.engine.Active()

	if err := a.xds.Err(); err != nil {
		out.Error = err.Error()
	}
	if s.Rejected != nil {
		out.Rejected = s.Rejected.Error()
	}
	if err := a.Ready(); err != nil {
		out.NotReady = err.Error()
	}
	return out
}

// serveDrill fails endpoints on purpose, or lets them be again. Nothing of it outlasts
// its lease: who has begun it may die.
func (a *Agent) serveDrill(w http.ResponseWriter, r *http.Request) {
	lease, err := time.ParseDuration(r.FormValue("lease"))
	if err != nil || lease < 0 {
		http.Error(w, "want ?host=HOST&cluster=CLUSTER&lease=10s; a lease of 0s ends the drill", http.StatusBadRequest)
		return
	}
	if lease == 0 {
		a.engine.EndDrill()
		fmt.Fprintln(w, "ended")
		return
	}
	if err := a.engine.Drill(r.FormValue("host"), r.FormValue("cluster"), lease); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	fmt.Fprintln(w, "on, until the lease is over")
}

// serveLogging tells the log level, or sets it.
func (a *Agent) serveLogging(w http.ResponseWriter, r *http.Request) {
	if a.cfg.Level == nil {
		http.Error(w, "the log level is fixed", http.StatusNotFound)
		return
	}

	if r.Method == http.MethodPost {
		var l slog.Level
		if err := l.UnmarshalText([]byte(r.FormValue("level"))); err != nil {
			http.Error(w, "want ?level=debug, info, warn or error", http.StatusBadRequest)
			return
		}
		a.cfg.Level.Set(l)
	}
	fmt.Fprintln(w, a.cfg.Level.Level())
}
