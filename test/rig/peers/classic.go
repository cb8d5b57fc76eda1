package peers

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"text/template"

	"github.com/isthmus-mesh/isthmus/test/rig/pki"
	"github.com/isthmus-mesh/isthmus/test/rig/topo"
)

// Role is which of two proxies on the way a classic one is.
type Role string

// The roles: by the client or by the server.
const (
	ClientSide Role = "client"
	ServerSide Role = "server"
)

// Classic says what haproxy or nginx does on a node. The client side listens
// on loopback ports; the server side takes mutual TLS on its address, and hands
// on to loopback.
type Classic struct {
	Node *topo.Node
	Role Role
	Dir  string
	// Plain is the upstream without a proxy, Server the node with one; both
	// are addresses without ports.
	Plain, Server string
	// The ports of the upstreams.
	HTTP1, HTTP2, GRPC, TCP int
	Root                    *pki.Root
}

// The port numbers of the classic proxies: an upstream's port plus PlainShift
// leads to the plain upstream, plus SecureShift to the server side over mutual
// TLS. The server side listens at the upstream's port plus TLSShift.
const (
	PlainShift  = 1000
	SecureShift = 2000
	TLSShift    = 3000
)

const (
	leafFile = "leaf.pem"
	keyFile  = "leaf.key"
	rootFile = "root.pem"
)

// configure writes certificates and the configuration into a directory of the
// node's own.
func (c *Classic) configure(name string, tmpl *template.Template, hook func(dir string) error) (dir, file string, err error) {
	dir = filepath.Join(c.Dir, name+"-"+c.Node.Name)
	if err := makeDir(dir); err != nil {
		return "", "", err
	}
	leaf, err := c.Root.Issue("spiffe://cluster.local/ns/bench/sa/"+name, "peer.bench")
	if err != nil {
		return "", "", err
	}
	for file, data := range map[string][]byte{
		leafFile: leaf.Cert,
		keyFile:  leaf.Key,
		// haproxy wants certificate and key in one file.
		"pair.pem": append(bytes.Clone(leaf.Cert), leaf.Key...),
		rootFile:   c.Root.PEM(),
	} {
		if err := writeFile(filepath.Join(dir, file), data); err != nil {
			return "", "", err
		}
	}
	var b bytes.Buffer
	err = tmpl.Execute(&b, struct {
		*Classic
		Dir     string
		Threads int
		Client  bool
	}{c, dir, Threads, c.Role == ClientSide})
	if err != nil {
		return "", "", fmt.Errorf("configuration of %s: %w", name, err)
	}
	file = filepath.Join(dir, name+".conf")
	if err := writeFile(file, b.Bytes()); err != nil {
		return "", "", err
	}
	if hook != nil {
		err = hook(dir)
	}
	return dir, file, err
}

func (c *Classic) waitAddr() string {
	if c.Role == ClientSide {
		return fmt.Sprintf("127.0.0.1:%d", c.HTTP1+PlainShift)
	}
	return fmt.Sprintf("%s:%d", c.Node.Addr, c.HTTP1+TLSShift)
}

// StartHAProxy starts haproxy as its documentation advises for many threads:
// one process, connections reused, no log.
func StartHAProxy(c *Classic) (*Proxy, error) {
	_, file, err := c.configure("haproxy", haproxyConfig, nil)
	if err != nil {
		return nil, err
	}
	p, err := start(c.Node, "haproxy", c.Dir, exec.Command("/usr/sbin/haproxy", "-db", "-f", file))
	if err != nil {
		return nil, err
	}
	return p, p.waitPort(c.waitAddr())
}

// StartNginx starts nginx with keep-alive towards its upstreams and no log.
func StartNginx(c *Classic) (*Proxy, error) {
	dir, file, err := c.configure("nginx", nginxConfig, nil)
	if err != nil {
		return nil, err
	}
	p, err := start(c.Node, "nginx", c.Dir, exec.Command("/usr/sbin/nginx", "-p", dir, "-e", "stderr", "-c", file))
	if err != nil {
		return nil, err
	}
	if err := p.waitPort(c.waitAddr()); err != nil {
		return nil, err
	}
	// The port is open before the workers are there.
	return p, p.wait(func() error {
		if err := p.addChildren(); err != nil {
			return err
		}
		if n := len(p.pids) - 1; n != Threads {
			return fmt.Errorf("%d of %d workers", n, Threads)
		}
		return nil
	})
}
