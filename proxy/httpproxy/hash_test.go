package httpproxy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
)

// TestConsistentHash: requests that are alike go to one endpoint, in every version of
// HTTP on either side; a caller without the cookie is given it with the answer, and comes
// back to where it was.
func TestConsistentHash(t *testing.T) {
	var addrs []string
	for i := range 8 {
		addrs = append(addrs, backend(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, i) })))
	}
	for _, versions := range []struct {
		name string
		h2   bool
		to   config.HTTPProtocol
	}{
		{"HTTP/1", false, config.HTTP1},
		{"HTTP/2", true, config.HTTP2},
		{"HTTP/1 to HTTP/2", false, config.HTTP2},
		{"HTTP/2 to HTTP/1", true, config.HTTP1},
	} {
		t.Run(versions.name, func(t *testing.T) {
			cluster := staticCluster("c", versions.to, addrs...)
			cluster.LB, cluster.Balance.Hash = config.LBRingHash, config.HashTable{MinRing: 1024, MaxRing: 8 << 20}
			rc := toCluster("c")
			rc.VirtualHosts[0].Routes[0].Action.Hash = []config.HashPolicy{
				{Header: "x-user", Terminal: true},
				{Cookie: &config.HashCookie{Name: "id", Generate: true, TTL: time.Minute}},
			}
			h := startHop(t, setup{hcm: config.HCM{Routes: rc}, clusters: []*config.Cluster{cluster}})
			c := client(t, h.addr, versions.h2)
			ask := func(field, value string) (who string, cookies []string) {
				req, _ := http.NewRequest("GET", "http://server.bar:8000/", nil)
				req.Header.Set(field, value)
				resp, err := c.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				body, _ := io.ReadAll(resp.Body)
				return string(body), resp.Header["Set-Cookie"]
			}

			seen := map[string]bool{}
			for i := range 40 {
				user := fmt.Sprint("user-", i)
				who, _ := ask("x-user", user)
				for range 3 {
					if again, _ := ask("x-user", user); again != who {
						t.Fatalf("%s was served by %s, and then by %s", user, who, again)
					}
				}
				seen[who] = true
			}
			if len(seen) < 4 {
				t.Errorf("40 users were served by %d of 8 endpoints", len(seen))
			}

			who, cookies := ask("x-other", "1")
			if len(cookies) != 1 || !strings.HasPrefix(cookies[0], "id=") || !strings.HasSuffix(cookies[0], "; Max-Age=60; HttpOnly") {
				t.Fatalf("cookies %q", cookies)
			}
			id, _, _ := strings.Cut(cookies[0], ";")
			for range 3 {
				if again, more := ask("cookie", "a=b; "+id); again != who || len(more) > 0 {
					t.Errorf("with the cookie, %s answers and sets %q; want %s, and nothing", again, more, who)
				}
			}
		})
	}
}
