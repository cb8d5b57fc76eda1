package release

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

const (
	tailLines = 30
	// quietFor is how long a meter that does not write to a terminal stays
	// silent between two lines.
	quietFor = 15 * time.Second
)

// meter turns the output of `go build -v`, a package per line, into progress
// lines. It is written to by one goroutine.
type meter struct {
	out      io.Writer
	label    string
	total    int
	terminal bool

	started time.Time
	last    time.Time
	count   int
	partial []byte
	recent  []string
}

func newMeter(out io.Writer, label string, total int) *meter {
	m := &meter{out: out, label: label, total: total, started: time.Now()}
	if f, ok := out.(*os.File); ok {
		info, err := f.Stat()
		m.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	m.show()
	return m
}

// Write takes output of the go command.
func (m *meter) Write(p []byte) (int, error) {
	m.partial = append(m.partial, p...)
	for {
		i := bytes.IndexByte(m.partial, '\n')
		if i < 0 {
			return len(p), nil
		}
		m.line(string(m.partial[:i]))
		m.partial = m.partial[i+1:]
	}
}

func (m *meter) line(s string) {
	m.recent = append(m.recent, s)
	if len(m.recent) > tailLines {
		m.recent = m.recent[1:]
	}
	if isPackage(s) {
		m.count++
	}
	every := quietFor
	if m.terminal {
		every = 200 * time.Millisecond
	}
	if time.Since(m.last) >= every {
		m.show()
	}
}

// isPackage tells a package line from a message of the go command.
func isPackage(s string) bool {
	return s != "" && !strings.ContainsAny(s, " \t:")
}

func (m *meter) show() {
	m.last = time.Now()
	text := m.label + ": compiling"
	if m.count > 0 && m.total > 0 {
		text += fmt.Sprintf(" %d of at most %d packages", m.count, m.total)
	}
	text += fmt.Sprintf(" (%s)", time.Since(m.started).Round(time.Second))
	if m.terminal {
		fmt.Fprintf(m.out, "\r%s\x1b[K", text)
		return
	}
	fmt.Fprintln(m.out, text)
}

func (m *meter) done() {
	if m.terminal {
		fmt.Fprint(m.out, "\r\x1b[K")
	}
	fmt.Fprintf(m.out, "%s: built in %s\n", m.label, time.Since(m.started).Round(time.Second))
}

// tail returns the last lines of output, for an error message.
func (m *meter) tail() string {
	return strings.Join(append(m.recent, string(m.partial)), "\n")
}
