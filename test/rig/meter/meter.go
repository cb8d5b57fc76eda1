// Package meter reads what a process has used: processor time to the
// nanosecond, resident memory, and the counters that it exports. It measures
// processes from the outside, so that all contenders are measured alike.
package meter

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"golang.org/x/sys/unix"
)

// cpuClock is the clock of a process's processor time, by clock_getcpuclockid(3):
// the inverted pid with the number 2 (CPUCLOCK_SCHED) in the low three bits.
func cpuClock(pid int) int32 { return int32(^pid<<3 | 2) }

// CPU is the user and system time that the processes have used, ended threads
// included. Processor time that the kernel spends in the process's context on
// packets is part of it.
func CPU(pids ...int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		var ts unix.Timespec
		if err := unix.ClockGettime(cpuClock(pid), &ts); err != nil {
			return 0, fmt.Errorf("processor time of process %d: %w", pid, err)
		}
		sum += time.Duration(ts.Nano())
	}
	return sum, nil
}

// RSS is the resident memory of the processes in bytes. Pages that processes
// share count once for each.
func RSS(pids ...int) (int64, error) {
	var sum int64
	for _, pid := range pids {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, err
		}
		kb, err := statusField(data, "VmRSS:")
		if err != nil {
			return 0, fmt.Errorf("process %d: %w", pid, err)
		}
		sum += kb << 10
	}
	return sum, nil
}

func statusField(status []byte, name string) (int64, error) {
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		}
	}
	return 0, fmt.Errorf("no %s in its status", name)
}

// Children are the processes whose parent is pid, and theirs.
func Children(pid int) ([]int, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	var all []int
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for _, f := range strings.Fields(string(data)) {
			child, err := strconv.Atoi(f)
			if err != nil {
				return nil, err
			}
			more, err := Children(child)
			if err != nil {
				return nil, err
			}
			all = append(append(all, child), more...)
		}
	}
	return all, nil
}

// Dialer opens a connection to host:port from wherever the server is reached.
type Dialer func(addr string) (net.Conn, error)

// Get fetches a page over a connection of the dialer. Anything but 200 is an
// error that holds the start of the page.
func Get(ctx context.Context, dial Dialer, url string) ([]byte, error) {
	return do(ctx, dial, http.MethodGet, url, nil)
}

// Post sends a body, and fetches the answer as Get does.
func Post(ctx context.Context, dial Dialer, url string, body []byte) ([]byte, error) {
	return do(ctx, dial, http.MethodPost, url, body)
}

func do(ctx context.Context, dial Dialer, method, url string, body []byte) ([]byte, error) {
	tr := &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(_ context.Context, _, addr string) (net.Conn, error) { return dial(addr) },
	}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %.200s", url, resp.Status, page)
	}
	return page, nil
}

// Gauge adds up, on a page of metrics, the series of a gauge that have the value
// of a label.
func Gauge(page []byte, name, label, value string) (float64, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(page))
	if err != nil {
		return 0, fmt.Errorf("the page is not of metrics: %w", err)
	}
	family, ok := families[name]
	if !ok || family.GetType() != dto.MetricType_GAUGE {
		return 0, fmt.Errorf("the page has no gauge %s", name)
	}

	var sum float64
	for _, m := range family.GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == label && l.GetValue() == value {
				sum += m.GetGauge().GetValue()
			}
		}
	}
	return sum, nil
}

// Counter adds up the counters of a name on a page in Prometheus's text format,
// whatever their labels.
func Counter(page []byte, name string) (float64, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(page))
	if err != nil {
		return 0, fmt.Errorf("the page is not of metrics: %w", err)
	}
	family, ok := families[name]
	if !ok || family.GetType() != dto.MetricType_COUNTER {
		return 0, fmt.Errorf("the page has no counter %s", name)
	}

	var sum float64
	for _, m := range family.GetMetric() {
		sum += m.GetCounter().GetValue()
	}
	return sum, nil
}
