package apiserver

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/isthmus-mesh/isthmus/test/rig/pki"
)

// serverName is what the server's certificate proves, whatever its address is.
const serverName = "kubernetes.default.svc"

// Server is an API server. Its methods may be called at any time, by several
// goroutines.
type Server struct {
	*objects
	root *pki.Root
	mux  *http.ServeMux
	http *http.Server
	gate *gate
	tls  *tls.Config
	addr string

	mu       sync.Mutex
	tokens   []string // the ones that are taken; all when empty
	delay    time.Duration
	requests map[string]int
	listener net.Listener // nil while refusing
	serving  sync.WaitGroup
}

// Start starts a server with some objects. Close ends it.
func Start(objs ...runtime.Object) (*Server, error) {
	root, err := pki.NewRoot()
	if err != nil {
		return nil, err
	}
	leaf, err := root.Issue("", serverName)
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(leaf.Cert, leaf.Key)
	if err != nil {
		return nil, err
	}

	s := &Server{
		objects: newObjects(), root: root, mux: http.NewServeMux(), gate: newGate(),
		tls:      &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}},
		addr:     "127.0.0.1:0",
		requests: map[string]int{},
	}
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.admit),
		ReadHeaderTimeout: time.Minute,
		// Connections that break are what the tests are about.
		ErrorLog: log.New(nowhere{}, "", 0),
	}
	s.mux.HandleFunc("/version", answer(map[string]string{"major": "1", "minor": "37", "gitVersion": "v1.37.2"}))
	s.mux.HandleFunc("/", s.objects.serve)

	if err := s.Apply(objs...); err != nil {
		return nil, err
	}
	return s, s.listen()
}

// nowhere drops what is logged.
type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

func (s *Server) listen() error {
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		return err
	}
	s.addr = l.Addr().String()

	s.mu.Lock()
	defer s.mu.Unlock()
	s.listener = l
	s.serving.Go(func() { _ = s.http.Serve(tls.NewListener(s.gate.listener(l), s.tls)) })
	return nil
}

// Close ends the server and all connections.
func (s *Server) Close() {
	_ = s.http.Close()
	s.gate.closeAll()
	s.serving.Wait()
}

// URL is the address of the server, which it keeps while it refuses connections.
func (s *Server) URL() string { return "https://" + s.addr }

// Kubeconfig is a kubeconfig for the server, with a token when it is not empty.
func (s *Server) Kubeconfig(token string) []byte {
	c := clientcmdapi.NewConfig()
	c.Clusters["c"] = &clientcmdapi.Cluster{
		Server: s.URL(), TLSServerName: serverName, CertificateAuthorityData: s.root.PEM(),
	}
	c.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: token}
	c.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	c.CurrentContext = "x"
	out, err := clientcmd.Write(*c)
	if err != nil {
		panic("apiserver: a kubeconfig of strings cannot be written: " + err.Error())
	}
	return out
}

// Config is a client's configuration for the server.
func (s *Server) Config(token string) (*rest.Config, error) {
	return ConfigOf(s.Kubeconfig(token))
}

// ConfigOf is the same by a kubeconfig, which another process may have been
// given.
func ConfigOf(kubeconfig []byte) (*rest.Config, error) {
	return clientcmd.RESTConfigFromKubeConfig(kubeconfig)
}

// Handle answers requests of a pattern, as http.ServeMux has them, instead of
// the objects.
func (s *Server) Handle(pattern string, h http.HandlerFunc) { s.mux.HandleFunc(pattern, h) }

// TakeTokens lets only requests with one of these tokens in; none is all.
func (s *Server) TakeTokens(tokens ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens = tokens
}

// admit is what every request passes through.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.mu.Lock()
	s.requests[describe(r)]++
	delay, refused := s.delay, len(s.tokens) > 0 && !slices.Contains(s.tokens, token)
	s.mu.Unlock()

	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-r.Context().Done():
			return
		}
	}
	if refused {
		fail(w, http.StatusUnauthorized, "Unauthorized", "Unauthorized")
		return
	}
	s.mux.ServeHTTP(w, r)
}

// describe names a request as Requests counts it.
func describe(r *http.Request) string {
	p, ok := parsePath(r.URL.Path)
	verb := strings.ToLower(r.Method)
	if !ok {
		return verb + " " + r.URL.Path
	}
	if r.Method == http.MethodGet && p.name == "" {
		verb = "list"
		if r.URL.Query().Get("watch") != "" {
			verb = "watch"
		}
	}
	return verb + " " + p.gvr.Resource
}

// Requests tells how many requests there were of one kind, such as "watch pods"
// or "get /version".
func (s *Server) Requests(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[what]
}

// AllRequests tells how many requests there were.
func (s *Server) AllRequests() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range s.requests {
		n += of
	}
	return n
}

func answer(v any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, v) }
}

func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// An error here is a client that went away.
	_ = json.NewEncoder(w).Encode(v)
}

// fail answers with a Status, as API servers do.
func fail(w http.ResponseWriter, code int, reason, format string, args ...any) {
	reply(w, code, status(code, reason, fmt.Sprintf(format, args...)))
}

func status(code int, reason, message string) map[string]any {
	return map[string]any{
		"kind": "Status", "apiVersion": "v1", "status": "Failure",
		"code": code, "reason": reason, "message": message,
	}
}
