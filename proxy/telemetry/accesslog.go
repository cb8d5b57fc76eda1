package telemetry

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/proxy/config"
	"github.com/isthmus-mesh/isthmus/proxy/downstream"
	"github.com/isthmus-mesh/isthmus/proxy/outcome"
)

// Entry is one line of an access log. Fields that do not apply stay empty and
// are written as "-".
type Entry struct {
	Info                            *downstream.Info
	Start                           time.Time
	Method, Path, Authority, Scheme string
	Protocol                        string // HTTP/1.1, HTTP/2; empty for TCP
	Code                            int
	Flags                           string
	Details                         string // why a policy refused it; empty otherwise
	GRPC                            int
	Received, Sent                  int64
	Upstream                        netip.AddrPort
	Cluster, Route                  string
	// RequestHeaders and ResponseHeaders are the values of the headers that the
	// log's formats name, in the order of AccessLog.RequestHeaders and
	// AccessLog.ResponseHeaders.
	RequestHeaders, ResponseHeaders []string
}

// NewEntry returns an entry for something that came by the connection.
func NewEntry(info *downstream.Info) *Entry {
	return &Entry{Info: info, Start: time.Now(), GRPC: outcome.NoGRPCStatus}
}

// AccessLog writes entries to one or more logs. A nil AccessLog writes nothing.
type AccessLog struct {
	sinks    []sink
	request  []string
	response []string
}

type sink struct {
	file   *logFile
	format *format
}

// AccessLog compiles access log configurations; it returns nil when there are
// none. An unknown operator in a format is an error.
func (t *Telemetry) AccessLog(cfgs []config.AccessLog) (*AccessLog, error) {
	if len(cfgs) == 0 {
		return nil, nil
	}

	a := &AccessLog{}
	for i := range cfgs {
		f, err := compileFormat(&cfgs[i], a)
		if err != nil {
			return nil, fmt.Errorf("access log %q: %w", cfgs[i].Path, err)
		}
		file, err := t.logs.open(cfgs[i].Path)
		if err != nil {
			return nil, err
		}
		a.sinks = append(a.sinks, sink{file, f})
	}

	return a, nil
}

// RequestHeaders lists the request headers, in lower case, whose values entries
// must carry.
func (a *AccessLog) RequestHeaders() []string { return a.request }

// ResponseHeaders lists the response headers, in lower case, whose values
// entries must carry.
func (a *AccessLog) ResponseHeaders() []string { return a.response }

// Write logs an entry. It does not block on a file but for what is gathered to
// be written.
func (a *AccessLog) Write(e *Entry) {
	if a == nil {
		return
	}
	end := time.Now()
	for i := range a.sinks {
		a.sinks[i].file.write(func(b []byte) []byte { return a.sinks[i].format.append(b, e, end) })
	}
}

// OpenLog opens an access log by its path.
type OpenLog func(path string) (io.Writer, error)

func openFile(path string) (io.Writer, error) {
	switch path {
	case "/dev/stdout":
		return os.Stdout, nil
	case "/dev/stderr":
		return os.Stderr, nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open the access log: %w", err)
	}
	return f, nil
}

// logs are the log files in use, each open once.
type logs struct {
	openLog OpenLog
	mu      sync.Mutex
	files   map[string]*logFile
}

func newLogs(open OpenLog) *logs { return &logs{openLog: open, files: map[string]*logFile{}} }

func (l *logs) open(path string) (*logFile, error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if f := l.files[path]; f != nil {
		return f, nil
	}

	w, err := l.openLog(path)
	if err != nil {
		return nil, err
	}

	f := &logFile{w: w}
	l.files[path] = f
	return f, nil
}

func (l *logs) run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			l.flush()
			return nil
		case <-tick.C:
			l.flush()
		}
	}
}

func (l *logs) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.files {
		f.flush()
	}
}

// flushAt is how much is gathered before it is written at once, in bytes.
const flushAt = 32 << 10

// logFile gathers lines and writes them in few writes.
type logFile struct {
	mu  sync.Mutex
	w   io.Writer
	buf []byte
}

func (f *logFile) write(line func([]byte) []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.buf = line(f.buf)
	if len(f.buf) >= flushAt {
		f.drain()
	}
}

func (f *logFile) flush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drain()
}

// drain writes what is gathered. A log that cannot be written must not stop
// traffic: the lines are lost.
func (f *logFile) drain() {
	if len(f.buf) > 0 {
		_, _ = f.w.Write(f.buf)
		f.buf = f.buf[:0]
	}
}
