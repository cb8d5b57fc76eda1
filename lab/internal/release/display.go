package release

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

const (
	// quietFor is the time between two lines of a display that does not write
	// to a terminal.
	quietFor = 15 * time.Second
	// terminalPause is the time between two changes of a line on a terminal.
	terminalPause = 200 * time.Millisecond
)

// display says what one piece of work is at, again and again until it ends: a
// reader sees that something goes on even where it has nothing new to tell,
// such as while a large program is linked. Its methods may be called
// concurrently.
type display struct {
	out      io.Writer
	label    string
	terminal bool
	started  time.Time
	stop     chan struct{}
	stopped  sync.WaitGroup

	mu    sync.Mutex
	doing string
	last  time.Time
}

// newDisplay begins a piece of work; end must be called.
func newDisplay(out io.Writer, label, doing string) *display {
	d := &display{out: out, label: label, doing: doing, started: time.Now(), stop: make(chan struct{})}
	if f, ok := out.(*os.File); ok {
		info, err := f.Stat()
		d.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	d.show()
	d.stopped.Go(d.beat)
	return d
}

// pause is the time between two lines.
func (d *display) pause() time.Duration {
	if d.terminal {
		return terminalPause
	}
	return quietFor
}

// beat repeats the line until the work ends.
func (d *display) beat() {
	tick := time.NewTicker(max(d.pause(), time.Second))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			d.set("")
		case <-d.stop:
			return
		}
	}
}

// set says what the work is at now, "" for no change; it is shown when the last
// line is old enough.
func (d *display) set(doing string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if doing != "" {
		d.doing = doing
	}
	if time.Since(d.last) >= d.pause() {
		d.show()
	}
}

func (d *display) show() {
	d.last = time.Now()
	line := fmt.Sprintf("%s: %s (%s)", d.label, d.doing, d.elapsed())
	if d.terminal {
		fmt.Fprintf(d.out, "\r%s\x1b[K", line)
		return
	}
	fmt.Fprintln(d.out, line)
}

func (d *display) elapsed() time.Duration { return time.Since(d.started).Round(time.Second) }

// end ends the work; outcome, which may be "", is its last line.
func (d *display) end(outcome string) {
	close(d.stop)
	d.stopped.Wait()
	if d.terminal {
		fmt.Fprint(d.out, "\r\x1b[K")
	}
	if outcome != "" {
		fmt.Fprintf(d.out, "%s: %s in %s\n", d.label, outcome, d.elapsed())
	}
}
