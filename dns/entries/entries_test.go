package entries

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/fake"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/dns"
	"github.com/isthmus-mesh/isthmus/test/leak"
)

func entryOf(t *testing.T, name, host, address string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	err := yaml.Unmarshal(fmt.Appendf(nil, `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {namespace: foo, name: %s}
spec:
  hosts: [%q]
  addresses: [%q]
  location: MESH_INTERNAL
  resolution: DNS
  ports: [{number: 8000, name: http1, protocol: http}]
  endpoints: [{address: 192.0.2.1, ports: {http1: 15443}}]
`, name, host, address), &u.Object)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// logged is a log that may be read while it is written.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(p) }
func (l *logged) String() string              { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

func TestWatcher(t *testing.T) {
	defer leak.None(t, goleak.IgnoreCurrent())
	client := fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(),
		map[schema.GroupVersionResource]string{resource(): "ServiceEntryList"},
		entryOf(t, "first", "first.bar.global", "240.0.0.1"),
		entryOf(t, "broken", "broken.bar.global", "no address"))
	log := &logged{}
	names := &dns.Names{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- New(client, names, api.Estate{}, slog.New(slog.NewTextHandler(log, nil))).Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	eventually(t, names, "first.bar.global", "240.0.0.1")
	if _, host, _ := names.Table().Lookup("broken.bar.global"); host {
		t.Error("an entry that is not valid has a name")
	}
	if !strings.Contains(log.String(), "name=broken") {
		t.Errorf("the invalid entry was skipped in silence: %s", log)
	}
	c := client.Resource(resource()).Namespace("foo")
	if _, err := c.Create(ctx, entryOf(t, "second", "second.bar.global", "240.0.0.2"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, names, "second.bar.global", "240.0.0.2")
	if _, err := c.Update(ctx, entryOf(t, "first", "first.bar.global", "240.0.0.3"), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, names, "first.bar.global", "240.0.0.3")
	if err := c.Delete(ctx, "first", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, names, "first.bar.global", "")
}

func eventually(t *testing.T, names *dns.Names, name, address string) {
	t.Helper()
	got := ""
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		table := names.Table()
		if table == nil {
			continue
		}
		got = ""
		if addrs, _, _ := table.Lookup(name); len(addrs) > 0 {
			got = addrs[0].String()
		}
		if got == address {
			return
		}
	}
	t.Fatalf("%s has the address %q, want %q", name, got, address)
}
