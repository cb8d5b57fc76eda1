package failover

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Report is what one run of the bench has measured.
type Report struct {
	// Where is the machine and the time, in words; Rates are requests a second of
	// each caller.
	Where  string             `json:"where"`
	Rates  map[string]float64 `json:"rates"`
	Rows   []Row              `json:"faults"`
	Checks []Check            `json:"checks"`
}

// Missed counts what did not meet its bar.
func (r *Report) Missed() int {
	n := 0
	for i := range r.Rows {
		if !r.Rows[i].OK {
			n++
		}
	}
	for i := range r.Checks {
		if !r.Checks[i].OK {
			n++
		}
	}
	return n
}

// WriteJSON writes it whole.
func (r *Report) WriteJSON(file string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}

// Markdown is a table for each method, the callers of both clusters in one line,
// and one of the checks.
func (r *Report) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s. Each caller: %.0f GETs and %.0f POSTs a second.\n\n", r.Where, r.Rates["GET"], r.Rates["POST"])
	for _, method := range []string{"GET", "POST"} {
		rows := r.merged(method)
		if len(rows) == 0 {
			continue
		}
		more, line := "", ""
		if method == "POST" {
			more, line = " acted on twice |", "---:|"
		}
		fmt.Fprintf(&b, "**%s**\n\n| fault in the near cluster | model | sent | failed | slowest, ms | before | affected until, ms | near again, ms |%s bar | met |\n|---|---|---:|---:|---:|---:|---:|---:|%s---|---|\n", method, more, line)
		for i := range rows {
			row := &rows[i]
			twice := ""
			if method == "POST" {
				twice = fmt.Sprintf(" %d |", row.Duplicates)
			}
			fmt.Fprintf(&b, "| %s | %s | %d | %d | %.0f | %.0f | %.0f | %s |%s %s | %s |\n", row.Fault, row.Model, row.Sent, row.Failed,
				row.SlowestMS, row.SlowestBeforeMS, row.LastAffectedMS, backText(row.BackMS), twice, row.Bar, met(row.OK))
		}
		b.WriteString("\n")
	}

	if len(r.Checks) > 0 {
		b.WriteString("| calls | model | percent | bar | met |\n|---|---|---:|---|---|\n")
		for i := range r.Checks {
			c := &r.Checks[i]
			fmt.Fprintf(&b, "| %s | %s | %.2f | %.4g to %.4g | %s |\n", c.Name, c.Model, c.Value, c.AtLeast, c.AtMost, met(c.OK))
		}
	}
	return b.String()
}

// merged are the rows of a method, those of one fault and model as one: what is
// worst of them.
func (r *Report) merged(method string) []Row {
	var all []Row
	for _, row := range r.Rows {
		if row.Method != method {
			continue
		}
		i := slices.IndexFunc(all, func(o Row) bool { return o.Fault == row.Fault && o.Model == row.Model })
		if i < 0 {
			all = append(all, row)
			continue
		}
		all[i] = worst(all[i], row)
	}
	return all
}

func worst(a, b Row) Row {
	a.Sent, a.Failed = a.Sent+b.Sent, a.Failed+b.Failed
	a.SlowestMS, a.SlowestBeforeMS = max(a.SlowestMS, b.SlowestMS), max(a.SlowestBeforeMS, b.SlowestBeforeMS)
	a.LastAffectedMS = max(a.LastAffectedMS, b.LastAffectedMS)
	a.OK = a.OK && b.OK
	if a.BackMS < 0 || b.BackMS < 0 {
		a.BackMS = -1
	} else {
		a.BackMS = max(a.BackMS, b.BackMS)
	}
	a.Duplicates = cmp.Or(a.Duplicates, b.Duplicates) // of both callers, each
	return a
}

func backText(ms float64) string {
	if ms < 0 {
		return "not"
	}
	return fmt.Sprintf("%.0f", ms)
}

func met(ok bool) string {
	if ok {
		return "yes"
	}
	return "**no**"
}
