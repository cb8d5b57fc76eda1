package release

import (
	"bytes"
	"fmt"
	"strings"
)

// tailLines is how much of a build's output is kept for an error message.
const tailLines = 30

// meter turns the output of `go build -v`, a package per line, into progress.
// It is written to by one goroutine.
type meter struct {
	display *display
	total   int // packages at most; 0 when unknown

	count   int
	partial []byte
	recent  []string
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
	if !isPackage(s) {
		return
	}
	m.count++
	if m.total > 0 {
		m.display.set(fmt.Sprintf("compiling %d of at most %d packages", m.count, m.total))
	}
}

// isPackage tells a package line from a message of the go command.
func isPackage(s string) bool {
	return s != "" && !strings.ContainsAny(s, " \t:")
}

// tail returns the last lines of output, for an error message.
func (m *meter) tail() string {
	return strings.Join(append(m.recent, string(m.partial)), "\n")
}
