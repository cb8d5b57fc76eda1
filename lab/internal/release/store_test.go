package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/lab/internal/fetch"
	"github.com/isthmus-mesh/isthmus/lab/internal/plan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site serves a release: files by their path. It counts what it is asked.
type site struct {
	*httptest.Server

	mu    sync.Mutex
	files map[string][]byte
	asked []string
	// instead answers in place of the files; nil: they are served.
	instead http.HandlerFunc
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{files: map[string][]byte{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked = append(s.asked, r.URL.Path)
		content, ok := s.files[r.URL.Path]
		instead := s.instead
		s.mu.Unlock()
		if instead != nil {
			instead(w, r)
			return
		}
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Write(content)
	}))
	t.Cleanup(s.Close)
	return s
}

// put adds a file and the list of its checksum.
func (s *site) put(path string, content []byte) {
	s.files[path] = content
	s.files[path+".sha256"] = fmt.Appendf(nil, "%x  %s\n", sha256.Sum256(content), filepath.Base(path))
}

// answer serves one path differently from now on; "" stands for all.
func (s *site) answer(path string, how http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instead = func(w http.ResponseWriter, r *http.Request) {
		if path == "" || r.URL.Path == path {
			how(w, r)
			return
		}
		// The files do not change any more.
		w.Write(s.files[r.URL.Path])
	}
}

// requests counts the requests so far.
func (s *site) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// store makes a store that downloads from a mirror, with pins if any.
func (s *site) store(t *testing.T, out *bytes.Buffer, pins string) *Store {
	t.Helper()
	file := ""
	if pins != "" {
		file = filepath.Join(t.TempDir(), "pins")
		if err := os.WriteFile(file, []byte(pins), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	client := fetch.NewClient(nil, fetch.Limits{
		Connect: 2 * time.Second,
		Answer:  2 * time.Second,
		Stall:   2 * time.Second,
		Tries:   2,
		Pause:   time.Millisecond,
	})
	t.Cleanup(client.Close)
	downloads, err := NewDownloads(client, s.URL+"/mirror", file)
	if err != nil {
		t.Fatal(err)
	}
	return &Store{Cache: t.TempDir(), Environ: os.Environ(), Out: out, Downloads: downloads}
}

// pair is a program of two commands, each published by itself; the source that
// it is compiled from ships with it.
func pair() Program {
	main := []byte("package main\n\nfunc main() {}\n")
	return Program{
		Name:     "pair",
		Version:  "v1",
		Packages: []string{"isthmus.local/lab/pair/left", "isthmus.local/lab/pair/right"},
		Sources:  map[string][]byte{"left/main.go": main, "right/main.go": main},
		Official: &Official{
			Site:   "https://pair.invalid/releases",
			Folder: "pair",
			Files: []ReleaseFile{
				{Path: "v1/left", Checksums: "v1/left.sha256"},
				{Path: "v1/right", Checksums: "v1/right.sha256"},
			},
		},
	}
}

// checkCommand fails unless a command is there, executable and as it should be.
func checkCommand(t *testing.T, dir, name, want string) {
	t.Helper()
	file := filepath.Join(dir, name)
	raw, err := os.ReadFile(file)
	if err != nil || string(raw) != want {
		t.Errorf("%s is %.20q (%v), want %q", name, raw, err, want)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
	}
}

// origins reads where a program came from, a word for each command.
func origins(t *testing.T, dir string, p Program) string {
	t.Helper()
	all, err := ReadOrigins(dir, p)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, o := range all {
		how := "compiled"
		if o.URL != "" {
			how = "downloaded"
		}
		words = append(words, o.Command+" "+how)
	}
	return strings.Join(words, ", ")
}

// checkNothingLeft fails when scratch files stay in the cache.
func checkNothingLeft(t *testing.T, cache string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(cache, ".build-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left in the cache: %v, %v", left, err)
	}
}

func TestProgramIsDownloadedOnce(t *testing.T) {
	s, p := newSite(t), pair()
	s.put("/mirror/pair/v1/left", []byte("LEFT"))
	s.put("/mirror/pair/v1/right", []byte("RIGHT"))
	var out bytes.Buffer
	store := s.store(t, &out, "")
	dir, err := store.Ensure(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	checkCommand(t, dir, "left", "LEFT")
	checkCommand(t, dir, "right", "RIGHT")
	checkNothingLeft(t, store.Cache)
	if got := origins(t, dir, p); got != "left downloaded, right downloaded" {
		t.Error(got)
	}
	if want := "pair v1: left downloaded from " + strings.TrimPrefix(s.URL, "http://") + ", checksum right, in 0s\n"; !strings.Contains(out.String(), want) {
		t.Errorf("no %q in\n%s", want, &out)
	}
	before := s.requests()
	if again, err := store.Ensure(t.Context(), p); err != nil || again != dir || s.requests() != before {
		t.Errorf("got again: %q, %v, %d requests more", again, err, s.requests()-before)
	}
}

func TestOnlyWhatIsNotPublishedIsCompiled(t *testing.T) {
	s, p := newSite(t), pair()
	s.put("/mirror/pair/v1/right", []byte("RIGHT"))
	var out bytes.Buffer
	store := s.store(t, &out, "")
	dir, err := store.Ensure(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	checkCommand(t, dir, "right", "RIGHT")
	if !Complete(dir, p) {
		t.Error("left is missing")
	}
	if got := origins(t, dir, p); got != "right downloaded, left compiled" {
		t.Error(got)
	}
	if want := "has no v1/left: compiling it\n"; !strings.Contains(out.String(), want) {
		t.Errorf("no %q in\n%s", want, &out)
	}
}

func TestWrongChecksumIsAnErrorNotACommand(t *testing.T) {
	s, p := newSite(t), pair()
	s.put("/mirror/pair/v1/left", []byte("LEFT"))
	s.files["/mirror/pair/v1/left"] = []byte("EVIL")
	store := s.store(t, new(bytes.Buffer), "")
	_, err := store.Ensure(t.Context(), p)
	if !errors.As(err, new(*fetch.ChecksumError)) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{
		"get pair v1: ",
		s.URL + "/mirror/pair/v1/left has SHA-256 " + fetch.Sum(sha256.Sum256([]byte("EVIL"))).String(),
		"should have " + fetch.Sum(sha256.Sum256([]byte("LEFT"))).String(),
		"--from-source",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
	if Complete(p.Dir(store.Cache), p) {
		t.Error("it is in the cache")
	}
	checkNothingLeft(t, store.Cache)
}

func TestBrokenDownloadGoesOnInTheNextRun(t *testing.T) {
	s, p := newSite(t), pair()
	left := bytes.Repeat([]byte("L"), 1000)
	s.put("/mirror/pair/v1/left", left)
	s.put("/mirror/pair/v1/right", []byte("RIGHT"))
	s.answer("/mirror/pair/v1/left", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.Write(left[:100])
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	store := s.store(t, new(bytes.Buffer), "")
	_, err := store.Ensure(t.Context(), p)
	if !errors.As(err, new(*fetch.BrokenError)) || !strings.Contains(err.Error(), "run the command again to go on from there") {
		t.Fatalf("got %v", err)
	}

	from := make(chan string, 1)
	s.answer("/mirror/pair/v1/left", func(w http.ResponseWriter, r *http.Request) {
		from <- r.Header.Get("Range")
		http.ServeContent(w, r, "left", time.Time{}, bytes.NewReader(left))
	})
	dir, err := store.Ensure(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	checkCommand(t, dir, "left", string(left))
	if got := <-from; got != "bytes=100-" {
		t.Errorf("the next run asked for %q", got)
	}
}

func TestSiteThatCannotBeUsedIsAskedOnce(t *testing.T) {
	for _, c := range []struct {
		name, want string
		handler    http.HandlerFunc
	}{
		{
			name:    "refuses",
			want:    "cannot be used (127.0.0.1:PORT answers 403 Forbidden)",
			handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) },
		},
		{
			name:    "login page",
			want:    "cannot be used (http://127.0.0.1:PORT/mirror/pair/v1/left.sha256 is no list of checksums: line 1: \"<html>\" is no SHA-256",
			handler: func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html> Log in</html>")) },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, p := newSite(t), pair()
			s.answer("", c.handler)
			var out bytes.Buffer
			store := s.store(t, &out, "")
			dir, err := store.Ensure(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			if got := origins(t, dir, p); got != "left compiled, right compiled" {
				t.Error(got)
			}
			other := pair()
			other.Version = "v2"
			if _, err := store.Ensure(t.Context(), other); err != nil {
				t.Fatal(err)
			}
			u, _ := url.Parse(s.URL)
			for _, want := range []string{
				strings.ReplaceAll(c.want, "PORT", u.Port()),
				"compiling instead, which takes minutes; --mirror URL names another source",
				"pair v2: compiling it, since " + u.Host + " cannot be used",
			} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in\n%s", want, &out)
				}
			}
			if n := s.requests(); n != 1 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

func TestPinnedChecksumsAloneAreBelieved(t *testing.T) {
	s, p := newSite(t), pair()
	s.put("/mirror/pair/v1/left", []byte("LEFT"))
	s.put("/mirror/pair/v1/right", []byte("RIGHT"))
	var out bytes.Buffer
	pin := func(content string) string { return fmt.Sprintf("%x  pair/v1/left\n", sha256.Sum256([]byte(content))) }
	store := s.store(t, &out, pin("LEFT"))
	dir, err := store.Ensure(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if got := origins(t, dir, p); got != "left downloaded, right compiled" {
		t.Error(got)
	}
	if want := "pair/v1/right is not in the list of checksums: compiling it"; !strings.Contains(out.String(), want) {
		t.Errorf("no %q in\n%s", want, &out)
	}
	if slices.ContainsFunc(s.asked, func(path string) bool { return strings.HasSuffix(path, ".sha256") }) {
		t.Errorf("the site's own sums were asked for: %q", s.asked)
	}
	// The site changes a file and its sum with it.
	if _, err := s.store(t, &out, pin("as released")).Ensure(t.Context(), p); !errors.As(err, new(*fetch.ChecksumError)) {
		t.Errorf("a changed file: %v", err)
	}
}

func TestArchiveGivesItsCommandsAndNothingElse(t *testing.T) {
	var packed bytes.Buffer
	zipped := gzip.NewWriter(&packed)
	files := tar.NewWriter(zipped)
	for _, f := range []struct {
		name, content string
		kind          byte
	}{
		{"pair-v1/", "", tar.TypeDir},
		{"../../right", "EVIL", tar.TypeReg},
		{"pair-v1/README", "words", tar.TypeReg},
		{"./pair-v1/left", "LEFT", tar.TypeReg},
		{"pair-v1/right", "", tar.TypeSymlink},
	} {
		head := &tar.Header{Name: f.name, Typeflag: f.kind, Size: int64(len(f.content)), Mode: 0o600}
		if f.kind == tar.TypeSymlink {
			head.Linkname = "/bin/sh"
		}
		if err := files.WriteHeader(head); err != nil {
			t.Fatal(err)
		}
		if _, err := files.Write([]byte(f.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(files.Close(), zipped.Close()); err != nil {
		t.Fatal(err)
	}
	s, p := newSite(t), pair()
	p.Official.Files = []ReleaseFile{{
		Path:      "v1/all.tgz",
		Checksums: "v1/all.tgz.sha256",
		Members:   []string{"pair-v1/left", "pair-v1/right"},
	}}
	s.put("/mirror/pair/v1/all.tgz", packed.Bytes())
	store := s.store(t, new(bytes.Buffer), "")
	dir, err := store.Ensure(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	checkCommand(t, dir, "left", "LEFT")
	if got := origins(t, dir, p); got != "left downloaded, right compiled" {
		t.Error(got)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Errorf("in the cache: %v, %v", entries, err)
	}
	if left, err := os.ReadDir(filepath.Join(store.Cache, "downloads")); err != nil || len(left) != 0 {
		t.Errorf("the archive is kept: %v, %v", left, err)
	}
}

func TestWhatWasDownloadedAndWhatWasCompiledLieApart(t *testing.T) {
	s, p := newSite(t), pair()
	s.put("/mirror/pair/v1/left", []byte("LEFT"))
	s.put("/mirror/pair/v1/right", []byte("RIGHT"))
	store := s.store(t, new(bytes.Buffer), "")
	downloaded, err := store.Ensure(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	fromSource := &Store{Cache: store.Cache, Environ: os.Environ(), Out: new(bytes.Buffer)}
	compiled, err := fromSource.Ensure(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if compiled == downloaded || origins(t, compiled, p) != "left compiled, right compiled" {
		t.Errorf("compiled: %s, %s", compiled, origins(t, compiled, p))
	}
	checkCommand(t, downloaded, "left", "LEFT") // a lab may be running it
	if err := os.RemoveAll(downloaded); err != nil {
		t.Fatal(err)
	}
	if got, err := store.Ensure(t.Context(), p); err != nil || got != compiled {
		t.Errorf("what was compiled does not serve: %s, %v", got, err)
	}
}

func TestCacheFromBeforeDownloadsServesAsCompiled(t *testing.T) {
	p := pair()
	store := &Store{Cache: t.TempDir(), Environ: os.Environ(), Out: new(bytes.Buffer)}
	dir := p.Dir(store.Cache)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range p.Binaries() {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := store.Ensure(t.Context(), p); err != nil || got != dir {
		t.Errorf("got %s, %v; want %s", got, err, dir)
	}
	if got := origins(t, dir, p); got != "left compiled, right compiled" {
		t.Error(got)
	}
}

func TestFailedBuildTellsWhyAndLeavesNothing(t *testing.T) {
	store := &Store{Cache: t.TempDir(), Environ: os.Environ(), Out: new(bytes.Buffer)}
	bad := Own("bad", []byte("package main\n\nfunc main() { undefined() }\n"))
	// What a killed run left.
	if err := os.MkdirAll(filepath.Join(store.Cache, ".build-"+filepath.Base(bad.Dir(store.Cache)), "out"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Ensure(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "undefined") {
		t.Fatalf("a broken program gives %v, want the compiler's words", err)
	}
	checkNothingLeft(t, store.Cache)
	if Complete(bad.Dir(store.Cache), bad) {
		t.Error("it is in the cache")
	}
}

func TestTwoLabsTakeTurns(t *testing.T) {
	s, p := newSite(t), pair()
	s.put("/mirror/pair/v1/left", []byte("LEFT"))
	s.put("/mirror/pair/v1/right", []byte("RIGHT"))
	var first bytes.Buffer
	store := s.store(t, &first, "")
	unlock, err := plan.TryLock(p.Dir(store.Cache) + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan struct{})
	second := &Store{Cache: store.Cache, Downloads: store.Downloads, Out: writerFunc(func(line []byte) {
		if strings.Contains(string(line), "another lab is getting it: waiting") {
			close(told)
		}
	})}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	waited := make(chan error, 1)
	go func() {
		_, err := second.Ensure(ctx, p)
		waited <- err
	}()
	<-told
	if n := s.requests(); n != 0 {
		t.Errorf("%d requests while the other lab is at it", n)
	}
	cancel()
	if err := <-waited; !errors.Is(err, context.Canceled) {
		t.Errorf("a waiter that is interrupted gets %v", err)
	}
	unlock()
	if _, err := store.Ensure(t.Context(), p); err != nil {
		t.Fatal(err)
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

func TestMirrorsAndListsThatAreRefused(t *testing.T) {
	damaged := filepath.Join(t.TempDir(), "damaged")
	good := filepath.Join(t.TempDir(), "good")
	for file, text := range map[string]string{damaged: "\nnonsense\n", good: strings.Repeat("ab", 32) + "  etcd/x\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ mirror, list, want string }{
		{mirror: "https://user:secret@mirror.example/x"},
		{mirror: "http://127.0.0.1:8080"},
		{mirror: "file:///srv/mirror"},
		{mirror: "http://user:secret@mirror.example", list: good},
		{
			mirror: "http://user:secret@mirror.example",
			want:   "mirror http://user:xxxxx@mirror.example: over http anyone on the way can change the programs",
		},
		{mirror: "mirror.example/x", want: `mirror "mirror.example/x": must be https://`},
		{mirror: "ftp://mirror.example", want: "must be https://"},
		{mirror: "file://mirror", want: "must be https://"},
		{mirror: "https://%zz", want: "mirror: "},
		{list: damaged, want: "list of checksums " + damaged + ", line 2: \"nonsense\" is no SHA-256"},
		{list: damaged + "-no", want: "no such file"},
	} {
		_, err := NewDownloads(nil, c.mirror, c.list)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("mirror %q, list %q: %v, want %q", c.mirror, c.list, err, c.want)
		}
	}
}
