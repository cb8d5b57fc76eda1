// Package report keeps the figures of a run, holds them against their bars, and
// writes them: as JSON for machines, and as tables into docs/performance.md.
package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Row is one figure.
type Row struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	// Bar is the largest value that is good enough; absent when the figure
	// only informs.
	Bar *float64 `json:"bar,omitempty"`
	// OK tells whether the bar is met; it is true without one.
	OK bool `json:"ok"`
}

// Report is the figures of one run in the order in which they were added.
type Report struct {
	Started time.Time
	Rows    []Row
	Tables  []Table
}

// Table is a set of figures that belong side by side.
type Table struct {
	Title string
	Head  []string
	Rows  [][]string
}

// Add adds a figure without a bar.
func (r *Report) Add(name string, value float64, unit string) {
	r.Rows = append(r.Rows, Row{Name: name, Value: round(value), Unit: unit, OK: true})
}

// AtMost adds a figure with the largest value that is good enough.
func (r *Report) AtMost(name string, value float64, unit string, bar float64) {
	ok := value <= bar && !math.IsNaN(value)
	r.Rows = append(r.Rows, Row{Name: name, Value: round(value), Unit: unit, Bar: &bar, OK: ok})
}

// Table adds a table.
func (r *Report) Table(t Table) { r.Tables = append(r.Tables, t) }

// Missed are the rows whose bar is not met.
func (r *Report) Missed() []Row {
	return slices.DeleteFunc(slices.Clone(r.Rows), func(row Row) bool { return row.OK })
}

// round keeps four significant digits.
func round(v float64) float64 {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return v
	}
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*scale) / scale
}

// Median is the middle of the values, and not a number when there are none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	v := slices.Sorted(slices.Values(values))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// Quantile is the value that the share q of the values does not exceed.
func Quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	v := slices.Sorted(slices.Values(values))
	return v[min(int(q*float64(len(v))), len(v)-1)]
}

// WriteJSON writes the rows as a list.
func (r *Report) WriteJSON(file string) error {
	for _, row := range r.Rows {
		if math.IsNaN(row.Value) || math.IsInf(row.Value, 0) {
			return fmt.Errorf("figure %q is no number", row.Name)
		}
	}
	data, err := json.MarshalIndent(r.Rows, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}

// The marks between which the figures stand in a document.
const (
	beginMark = "<!-- figures: written by make bench -->"
	endMark   = "<!-- end of figures -->"
)

// WriteDoc replaces what stands between the marks of the document.
func (r *Report) WriteDoc(file string) error { return Replace(file, beginMark, endMark, r.Markdown()) }

// Replace puts a text between two lines of a document, in the place of what stands
// there.
func Replace(file, beginMark, endMark, text string) error {
	doc, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	begin, end := bytes.Index(doc, []byte(beginMark)), bytes.Index(doc, []byte(endMark))
	if begin < 0 || end < begin {
		return fmt.Errorf("%s: no place for the figures: want the lines %q and %q", file, beginMark, endMark)
	}
	out := slices.Concat(doc[:begin+len(beginMark)], []byte("\n"), []byte(text), doc[end:])
	return os.WriteFile(file, out, 0o644)
}

// Markdown is machine and date, the rows that have bars, and the tables.
func (r *Report) Markdown() string {
	var b strings.Builder
	b.WriteString(Where(r.Started) + ".\n\n")
	b.WriteString("| measure | value | bar | met |\n|---|---:|---:|---|\n")
	for _, row := range r.Rows {
		if row.Bar == nil {
			continue
		}
		met := "yes"
		if !row.OK {
			met = "**no**"
		}
		fmt.Fprintf(&b, "| %s | %s | ≤ %s | %s |\n", row.Name, withUnit(row.Value, row.Unit), withUnit(*row.Bar, row.Unit), met)
	}
	for _, t := range r.Tables {
		fmt.Fprintf(&b, "\n**%s**\n\n| %s |\n|---%s|\n", t.Title, strings.Join(t.Head, " | "), strings.Repeat("|---:", len(t.Head)-1))
		for _, row := range t.Rows {
			fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		}
	}
	return b.String()
}

func withUnit(v float64, unit string) string {
	if unit == "×" {
		return fmt.Sprintf("%s×", number(v))
	}
	return strings.TrimSpace(number(v) + " " + unit)
}

func number(v float64) string {
	switch {
	case v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 100:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// Number formats a figure for a table's cell.
func Number(v float64) string {
	if math.IsNaN(v) {
		return "–"
	}
	return number(v)
}

// Where says on what a run that began then ran.
func Where(began time.Time) string {
	return fmt.Sprintf("%s, %s, %s", machine(), began.UTC().Format("2006-01-02 15:04 UTC"), runtime.Version())
}

// machine says what the run ran on.
func machine() string {
	model := runtime.GOARCH
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(data)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				model = strings.TrimSpace(v)
				break
			}
		}
	}
	kernel := "Linux"
	if out, err := exec.Command("uname", "-sr").Output(); err == nil {
		kernel = strings.TrimSpace(string(out))
	}
	return fmt.Sprintf("%d × %s, %s", runtime.NumCPU(), model, kernel)
}
