package fetch

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/xds"
)

var keptAt = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func cluster(name, version, body string) Resource {
	return Resource{Name: name, Version: version, Body: &anypb.Any{TypeUrl: xds.TypeCluster, Value: []byte(body)}}
}

func goodHead(resources int) keptHead {
	return keptHead{Format: keptFormat, Owner: "me", At: keptAt, Until: keptAt.Add(time.Hour), Types: []string{xds.TypeCluster, xds.TypeListener}, Resources: resources}
}

func keptFile(t testing.TB, head keptHead, resources ...Resource) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := newKeptWriter(&buf, head)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range resources {
		if err := w.add(r); err != nil {
			t.Fatal(err)
		}
	}
	w.left = 0 // heads that lie are written, too
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func zipped(content []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, _ = w.Write(content) // into memory
	_ = w.Close()
	return buf.Bytes()
}

func unzipped(t testing.TB, file []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestKeptFileIsReadAsItWasWritten(t *testing.T) {
	in := []Resource{cluster("a", "1", "first"), cluster("b", "2", strings.Repeat("x", 1<<20))}
	head, out, err := readKept(bytes.NewReader(keptFile(t, goodHead(2), in...)), "me", keptAt)
	if err != nil {
		t.Fatal(err)
	}
	if want := goodHead(2); !reflect.DeepEqual(*head, want) {
		t.Errorf("head %+v, want %+v", *head, want)
	}
	got := out[xds.TypeCluster]
	if len(got) != 2 || len(out) != 1 {
		t.Fatalf("got %v", out)
	}
	for i := range in {
		if got[i].Name != in[i].Name || got[i].Version != in[i].Version || !bytes.Equal(got[i].Body.Value, in[i].Body.Value) {
			t.Errorf("resource %d is %s %s", i, got[i].Name, got[i].Version)
		}
	}
}

func TestKeptFilesOfNoUse(t *testing.T) {
	one := cluster("a", "1", "body")
	good := keptFile(t, goodHead(1), one)
	with := func(edit func(*keptHead)) []byte {
		head := goodHead(1)
		edit(&head)
		return keptFile(t, head, one)
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1

	for _, tt := range []struct {
		name  string
		file  []byte
		fails string
	}{
		{"empty", nil, "EOF"},
		{"not gzip", bytes.Repeat([]byte("x"), 100), "gzip: invalid header"},
		{"cut off", good[:len(good)-9], "unexpected EOF"},
		{"without its checksum", good[:len(good)-1], "unexpected EOF"},
		{"one bit is wrong", flipped, ""},
		{"nothing in it", zipped(nil), "read its head: EOF"},
		{"no head", zipped([]byte("boo\n")), "read its head"},
		{"endless head", zipped(bytes.Repeat([]byte{'{'}, maxKeptHead+1)), "read its head: bufio: buffer full"},
		{"newer", with(func(h *keptHead) { h.Format++ }), "newer than this proxy's"},
		{"older", with(func(h *keptHead) { h.Format-- }), "it has format 0, want 1"},
		{"another's", with(func(h *keptHead) { h.Owner = "you" }), `it is of "you", not of "me"`},
		{"out of date", with(func(h *keptHead) { h.Until = keptAt }), "it was good until 2026-01-02T03:04:05Z"},
		{"unknown type", with(func(h *keptHead) { h.Types = []string{"secret"} }), `type "secret" is not known`},
		{"negative", with(func(h *keptHead) { h.Resources = -1 }), "its head tells of -1 resources"},
		{"too few resources", with(func(h *keptHead) { h.Resources = 2 }), "resource 2 of 2: unexpected EOF"},
		{"a length that lies", zipped(append(unzipped(t, keptFile(t, goodHead(1))), 0xff, 0xff, 0xff, 0xff, 0x0f)), "resource 1 of 1: it has 4294967295 bytes"},
		{"no resource", zipped(append(unzipped(t, keptFile(t, goodHead(1))), 1, 0xff)), "resource 1 of 1: unexpected EOF"},
		{"too many resources", keptFile(t, goodHead(1), one, one), "something after its last resource"},
		{"twice the same", keptFile(t, goodHead(2), one, one), "cds a is there twice"},
		{"no name", keptFile(t, goodHead(1), cluster("", "1", "")), `name ""`},
		{"resource of an unknown type", keptFile(t, goodHead(1), Resource{Name: "a", Body: &anypb.Any{TypeUrl: "secret"}}), `type "secret"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, resources, err := readKept(bytes.NewReader(tt.file), "me", keptAt)
			if err == nil || !strings.Contains(err.Error(), tt.fails) {
				t.Errorf("error %v, want %q", err, tt.fails)
			}
			if resources != nil {
				t.Errorf("it gives %v", resources)
			}
		})
	}
}

func TestTooMuchIsNotKept(t *testing.T) {
	w, err := newKeptWriter(io.Discard, goodHead(2))
	if err != nil {
		t.Fatal(err)
	}
	w.bytes = maxKept - 100
	if err := w.add(cluster("a", "1", "")); err != nil {
		t.Fatal(err)
	}
	if err := w.add(cluster("b", "1", strings.Repeat("x", 100))); !errors.Is(err, errTooMuch) {
		t.Errorf("error %v", err)
	}
}

// FuzzKept: what a file holds is outside bytes, although nobody but the proxy
// should have written it.
func FuzzKept(f *testing.F) {
	good := keptFile(f, goodHead(2), cluster("a", "1", "body"), cluster("b", "2", "body"))
	f.Add(unzipped(f, good))
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		_, _, _ = readKept(bytes.NewReader(content), "me", keptAt) // must not panic

		head, byType, err := readKept(bytes.NewReader(zipped(content)), "me", keptAt)
		if err != nil {
			return
		}
		var all []Resource
		for _, rs := range byType {
			all = append(all, rs...)
		}
		if len(all) != head.Resources {
			t.Fatalf("%d resources, its head says %d", len(all), head.Resources)
		}
		if _, _, err := readKept(bytes.NewReader(keptFile(t, *head, all...)), "me", keptAt); err != nil {
			t.Fatalf("written again it is refused: %v", err)
		}
	})
}

// BenchmarkKeep writes the configuration of a proxy in a mesh of a thousand
// services after one of its resources has changed.
func BenchmarkKeep(b *testing.B) {
	dir := b.TempDir()
	s := newState([]string{xds.TypeCluster}, true)
	var all []Resource
	for i := range 4000 {
		name := fmt.Sprintf("outbound|8080||service-%d.namespace-%d.svc.cluster.local", i, i%50)
		body := strings.Repeat(name+" spiffe://cluster.local/ns/sa 10.1.2.3 envoy.transport_sockets.tls ", 8)
		all = append(all, cluster(name, fmt.Sprint(i), body))
	}
	s.record(xds.TypeCluster, all, nil, nil)
	k := &keeper{Keep: Keep{File: filepath.Join(dir, "kept"), Owner: "me", Until: func() time.Time { return keptAt }}, state: s, log: slog.New(slog.DiscardHandler)}
	k.save()

	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.record(xds.TypeCluster, []Resource{cluster(all[0].Name, fmt.Sprint("new", i), "")}, nil, nil)
		if again, end := k.save(); again > 0 || end {
			b.Fatal("it is not written")
		}
	}
	info, err := os.Stat(k.File)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(info.Size()), "file-bytes")
}
