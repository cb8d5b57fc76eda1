package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// content is the file of these tests.
var content = bytes.Repeat([]byte("0123456789abcdef"), 4096)

// quick are limits that a test can wait for.
func quick() Limits {
	return Limits{
		Connect: 2 * time.Second,
		Answer:  2 * time.Second,
		Stall:   2 * time.Second,
		Tries:   3,
		Pause:   time.Millisecond,
	}
}

func newClient(t *testing.T, limits Limits, environ ...string) *Client {
	t.Helper()
	c := NewClient(environ, limits)
	t.Cleanup(c.Close)
	return c
}

// server counts the requests to a handler, and keeps their ranges.
type server struct {
	*httptest.Server

	mu     sync.Mutex
	ranges []string
}

func serve(t *testing.T, handler http.HandlerFunc) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.ranges = append(s.ranges, r.Header.Get("Range"))
		s.mu.Unlock()
		handler(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.ranges...)
}

// serveContent answers as a file server does, ranges included.
func serveContent(w http.ResponseWriter, r *http.Request) {
	http.ServeContent(w, r, "tool", time.Time{}, bytes.NewReader(content))
}

// cutOff sends the beginning of the file and drops the connection.
func cutOff(w http.ResponseWriter, n int) {
	w.Header().Set("Content-Length", fmt.Sprint(len(content)))
	w.Write(content[:n])
	http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

func noProgress(int64, int64) {}

// checkFile fails unless path holds the content.
func checkFile(t *testing.T, path string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, content) {
		t.Fatalf("%d bytes of %d are here, or other ones: %v", len(got), len(content), err)
	}
}

// part is the path of a download.
func part(t *testing.T) string { return filepath.Join(t.TempDir(), "x.part") }

func TestFileArrivesWhole(t *testing.T) {
	s := serve(t, serveContent)
	path := part(t)
	var done, total int64
	err := newClient(t, quick()).File(t.Context(), s.URL+"/tool", sha256.Sum256(content), path,
		func(d, of int64) { done, total = d, of })
	if err != nil {
		t.Fatal(err)
	}
	checkFile(t, path)
	if done != int64(len(content)) || total != done {
		t.Errorf("progress ended at %d of %d", done, total)
	}
}

func TestFileGoesOnAfterACutOff(t *testing.T) {
	var later atomic.Bool
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if !later.Swap(true) {
			cutOff(w, 1000)
		}
		serveContent(w, r)
	})
	path := part(t)
	if err := newClient(t, quick()).File(t.Context(), s.URL, sha256.Sum256(content), path, noProgress); err != nil {
		t.Fatal(err)
	}
	checkFile(t, path)
	if got := s.asked(); len(got) != 2 || got[1] != "bytes=1000-" {
		t.Errorf("asked for %q, want the whole, then the rest", got)
	}
}

func TestFileThatKeepsBreakingOffIsKeptForTheNextRun(t *testing.T) {
	var mended atomic.Bool
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case mended.Load():
			serveContent(w, r)
		case r.Header.Get("Range") == "":
			cutOff(w, 1000)
		default:
			panic(http.ErrAbortHandler)
		}
	})
	client, path := newClient(t, quick()), part(t)
	err := client.File(t.Context(), s.URL, sha256.Sum256(content), path, noProgress)
	var off *BrokenError
	if !errors.As(err, &off) || off.Done != 1000 {
		t.Fatalf("got %v, want a download broken off after 1000 bytes", err)
	}
	if got := s.asked(); len(got) != quick().Tries {
		t.Errorf("asked %d times, want %d", len(got), quick().Tries)
	}

	mended.Store(true)
	if err := client.File(t.Context(), s.URL, sha256.Sum256(content), path, noProgress); err != nil {
		t.Fatal(err)
	}
	checkFile(t, path)
	if got := s.asked(); got[len(got)-1] != "bytes=1000-" {
		t.Errorf("the next run asked for %q", got[len(got)-1])
	}
}

func TestFileThatIsHereAlreadyIsNotAskedFor(t *testing.T) {
	s := serve(t, serveContent)
	path := part(t)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := newClient(t, quick()).File(t.Context(), s.URL, sha256.Sum256(content), path, noProgress); err != nil {
		t.Fatal(err)
	}
	if got := s.asked(); len(got) != 0 {
		t.Errorf("asked %d times", len(got))
	}
}

func TestFileWithABeginningThatIsAnothersStartsOver(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"ranges": serveContent,
		"no ranges": func(w http.ResponseWriter, _ *http.Request) {
			w.Write(content)
		},
	} {
		for _, left := range []int{10, len(content) + 10} {
			t.Run(fmt.Sprintf("%s, %d bytes left", name, left), func(t *testing.T) {
				s, path := serve(t, handler), part(t)
				if err := os.WriteFile(path, bytes.Repeat([]byte("x"), left), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := newClient(t, quick()).File(t.Context(), s.URL, sha256.Sum256(content), path, noProgress); err != nil {
					t.Fatal(err)
				}
				checkFile(t, path)
			})
		}
	}
}

func TestFileThatStandsStillIsGivenUp(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") == "" {
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			w.Write(content[:1000])
			http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
	})
	limits := quick()
	limits.Stall, limits.Answer, limits.Tries = 50*time.Millisecond, 50*time.Millisecond, 2
	err := newClient(t, limits).File(t.Context(), s.URL, sha256.Sum256(content), part(t), noProgress)
	if !errors.As(err, new(*BrokenError)) || !strings.Contains(err.Error(), "no answer within 50ms") {
		t.Fatalf("got %v", err)
	}

	limits.Tries = 1
	err = newClient(t, limits).File(t.Context(), s.URL, sha256.Sum256(content), part(t), noProgress)
	if !errors.As(err, new(*BrokenError)) || !strings.Contains(err.Error(), "nothing arrived for 50ms") {
		t.Fatalf("got %v", err)
	}
}

func TestSlowFileIsNotGivenUp(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		for rest := content; len(rest) > 0; rest = rest[len(content)/16:] {
			w.Write(rest[:len(content)/16])
			http.NewResponseController(w).Flush()
			time.Sleep(50 * time.Millisecond)
		}
	})
	limits, path := quick(), part(t)
	limits.Stall = 600 * time.Millisecond // less than the whole takes, far more than a pause
	if err := newClient(t, limits).File(t.Context(), s.URL, sha256.Sum256(content), path, noProgress); err != nil {
		t.Fatal(err)
	}
	checkFile(t, path)
}

func TestFileWithAWrongChecksumIsThrownAway(t *testing.T) {
	s, path := serve(t, serveContent), part(t)
	want := sha256.Sum256([]byte("another file"))
	err := newClient(t, quick()).File(t.Context(), s.URL+"/tool", want, path, noProgress)
	var wrong *ChecksumError
	if !errors.As(err, &wrong) || wrong.Want != want || wrong.Got != sha256.Sum256(content) {
		t.Fatalf("got %v, want both sums", err)
	}
	if got := s.asked(); len(got) != 1 {
		t.Errorf("asked %d times for a file that came in one piece", len(got))
	}
	if info, err := os.Stat(path); err != nil || info.Size() != 0 {
		t.Errorf("%d bytes of it are kept (%v)", info.Size(), err)
	}
}

func TestSitesThatCannotBeUsed(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	silent := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	forbidden := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	cut := serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	for _, c := range []struct{ name, url, want string }{
		{"connection refused", "http://" + gone.Addr().String(), "connection refused"},
		{"no answer", silent.URL, "no answer within 100ms"},
		{"forbidden", forbidden.URL, "answers 403 Forbidden"},
		{"dropped", cut.URL, "EOF"},
		{"no such name", "http://nowhere.invalid", "nowhere.invalid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			limits := quick()
			limits.Answer = 100 * time.Millisecond
			client := newClient(t, limits)
			err := client.File(t.Context(), c.url, Sum{}, part(t), noProgress)
			if !errors.As(err, new(*SiteError)) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("a file: %v, want %q", err, c.want)
			}
			_, err = client.Small(t.Context(), c.url)
			if !errors.As(err, new(*SiteError)) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("a list: %v, want %q", err, c.want)
			}
		})
	}
	for _, s := range []*server{silent, forbidden, cut} {
		// net/http itself repeats a request on a connection that was idle.
		if got := len(s.asked()); got > 3 {
			t.Errorf("a site that cannot be used was asked %d times for two files", got)
		}
	}
}

func TestFileThatIsNotThere(t *testing.T) {
	s := serve(t, http.NotFound)
	err := newClient(t, quick()).File(t.Context(), s.URL, Sum{}, part(t), noProgress)
	if !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
}

func TestSmallRefusesWhatIsLarge(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, maxSmall+1)) })
	if _, err := newClient(t, quick()).Small(t.Context(), s.URL); !errors.As(err, new(*SiteError)) {
		t.Fatal(err)
	}
}

func TestCancelledDownloadEndsAndIsKept(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		w.Write(content[:1000])
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	path := part(t)
	err := newClient(t, quick()).File(ctx, s.URL, Sum{}, path, func(int64, int64) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != 1000 {
		t.Fatalf("%v, %v", info, err)
	}
}

func TestRedirects(t *testing.T) {
	target := serve(t, serveContent)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, target.URL+"/tool", http.StatusFound)
	})
	path := part(t)
	if err := newClient(t, quick()).File(t.Context(), s.URL, sha256.Sum256(content), path, noProgress); err != nil {
		t.Fatal(err)
	}
	checkFile(t, path)

	secure := httptest.NewTLSServer(s.Config.Handler)
	defer secure.Close()
	client := newClient(t, quick())
	client.http.Transport.(*http.Transport).TLSClientConfig = secure.Client().Transport.(*http.Transport).TLSClientConfig
	err := client.File(t.Context(), secure.URL, sha256.Sum256(content), part(t), noProgress)
	if !errors.As(err, new(*SiteError)) || !strings.Contains(err.Error(), "redirected from https to http://") {
		t.Errorf("from https to http: %v", err)
	}
}

func TestProxyOfTheEnvironment(t *testing.T) {
	asked := make(chan string, 10)
	proxy := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.RequestURI
		if r.Method == http.MethodConnect {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		serveContent(w, r)
	})
	path := part(t)
	client := newClient(t, quick(), "http_proxy="+proxy.URL, "HTTPS_PROXY="+proxy.URL)
	if err := client.File(t.Context(), "http://releases.invalid/tool", sha256.Sum256(content), path, noProgress); err != nil {
		t.Fatal(err)
	}
	checkFile(t, path)

	err := client.File(t.Context(), "https://releases.invalid/tool", Sum{}, path, noProgress)
	host := strings.TrimPrefix(proxy.URL, "http://")
	if want := "the proxy " + host + " answers 403 Forbidden to a connection to releases.invalid"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	if first, second := <-asked, <-asked; first != "GET http://releases.invalid/tool" || second != "CONNECT releases.invalid:443" || len(asked) > 0 {
		t.Errorf("the proxy was asked %q, %q and %d more", first, second, len(asked))
	}

	direct := newClient(t, quick(), "HTTP_PROXY="+proxy.URL, "NO_PROXY=.invalid")
	if err := direct.File(t.Context(), "http://releases.invalid/tool", Sum{}, part(t), noProgress); !errors.As(err, new(*SiteError)) {
		t.Errorf("a name in NO_PROXY: %v", err)
	}
}

func TestDirectoryAsASource(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tool")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	path := part(t)
	client := newClient(t, quick())
	if err := client.File(t.Context(), "file://"+file, sha256.Sum256(content), path, noProgress); err != nil {
		t.Fatal(err)
	}
	checkFile(t, path)
	if err := client.File(t.Context(), "file://"+file+"-no", Sum{}, path, noProgress); !errors.Is(err, ErrNotFound) {
		t.Errorf("a file that is not there: %v", err)
	}
}
