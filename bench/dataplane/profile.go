package dataplane

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/test/rig/meter"
	"github.com/isthmus-mesh/isthmus/test/rig/peers"
)

// profiles writes pprof profiles of isthmus-proxy under load into a directory.
// It measures nothing: a profiled run costs more.
func (b *bench) profiles(ctx context.Context, dir string) error {
	l := b.lane(Isthmus)
	if l == nil {
		return fmt.Errorf("no lane %s to profile", Isthmus)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := fetch(ctx, l.near, "/debug/pprof/heap?gc=1", filepath.Join(dir, "idle.heap")); err != nil {
		return err
	}
	const lasting = 6 * time.Second
	for _, s := range []scenario{oneHTTP1(), twoHTTP1(), twoHTTP2(), twoGRPC()} {
		name := strings.NewReplacer(" ", "-", "/", "", ".", "").Replace(s.name)
		ended := make(chan error, 2)
		for side, p := range map[string]*peers.Proxy{"client": l.near, "server": l.far} {
			// Opened now: the load has the node's thread for itself.
			c, err := p.Node.Dial("127.0.0.1:15000")
			if err != nil {
				return err
			}
			file := filepath.Join(dir, name+"-"+side+".cpu")
			go func() { ended <- save(ctx, c, "/debug/pprof/profile?seconds=4", file) }()
		}
		if _, err := l.run(s, 0, time.Second, lasting); err != nil {
			return err
		}
		for range cap(ended) {
			if err := <-ended; err != nil {
				return err
			}
		}
		if err := fetch(ctx, l.near, "/debug/pprof/allocs", filepath.Join(dir, name+"-client.allocs")); err != nil {
			return err
		}
	}
	return nil
}

func fetch(ctx context.Context, p *peers.Proxy, path, file string) error {
	c, err := p.Node.Dial("127.0.0.1:15000")
	if err != nil {
		return err
	}
	return save(ctx, c, path, file)
}

// save fetches a page over an open connection into a file.
func save(ctx context.Context, c net.Conn, path, file string) error {
	page, err := meter.Get(ctx, func(string) (net.Conn, error) { return c, nil }, "http://127.0.0.1:15000"+path)
	if err != nil {
		return err
	}
	return os.WriteFile(file, page, 0o644)
}
