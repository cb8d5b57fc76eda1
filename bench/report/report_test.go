package report

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestBars(t *testing.T) {
	r := &Report{Started: time.Unix(0, 0)}
	r.AtMost("good", 1.2, "×", 1.2)
	r.AtMost("bad", 1.3, "×", 1.2)
	r.AtMost("unknown", math.NaN(), "×", 1.2)
	r.Add("free", 9, "MB")
	var missed []string
	for _, row := range r.Missed() {
		missed = append(missed, row.Name)
	}
	if got := strings.Join(missed, " "); got != "bad unknown" {
		t.Fatalf("missed: %s", got)
	}
	md := r.Markdown()
	for _, want := range []string{"| good | 1.20× | ≤ 1.20× | yes |", "| bad | 1.30× | ≤ 1.20× | **no** |"} {
		if !strings.Contains(md, want) {
			t.Errorf("no %q in\n%s", want, md)
		}
	}
	if strings.Contains(md, "free") {
		t.Error("a figure without a bar is in the table of bars")
	}
	if err := r.WriteJSON(filepath.Join(t.TempDir(), "r.json")); err == nil {
		t.Error("a figure that is no number was written")
	}
}

func TestWriteDoc(t *testing.T) {
	file := filepath.Join(t.TempDir(), "doc.md")
	write := func(s string) {
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := &Report{}
	r.AtMost("measure", 1, "s", 2)
	write("no marks")
	if err := r.WriteDoc(file); err == nil {
		t.Error("a document without marks was written")
	}
	write("before\n" + beginMark + "\nold\n" + endMark + "\nafter\n")
	for range 2 { // twice is the same as once
		if err := r.WriteDoc(file); err != nil {
			t.Fatal(err)
		}
	}
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := string(doc)
	if !strings.HasPrefix(s, "before\n") || !strings.HasSuffix(s, "after\n") || strings.Contains(s, "old") || strings.Count(s, "measure |") != 2 {
		t.Fatalf("document:\n%s", s)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{5, 1, 3}, 3}, {[]float64{4, 1, 3, 2}, 2.5}} {
		if got := Median(c.in); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.in, got, c.want)
		}
	}
	if !math.IsNaN(Median(nil)) || Quantile([]float64{1, 2, 3, 4}, 1) != 4 || Quantile([]float64{2, 1}, 0) != 1 {
		t.Error("ends")
	}
}
