package model

import "testing"

func TestLocalityPattern(t *testing.T) {
	for _, c := range []struct {
		pattern  LocalityPattern
		locality Locality
		want     bool
	}{
		{"*", "", true},
		{"*", "r1/z1/s1", true},
		{"r1", "r1/z1/s1", true},
		{"r1/*", "r1", true},
		{"r1/*", "r2/z1", false},
		{"r1/z1", "r1/z1/s1", true},
		{"r1/z1/*", "r1/z1", true},
		{"r1/z1/*", "r1", false},
		{"r1/z1/s1", "r1/z1/s1", true},
		{"r1/z1/s1", "r1/z1/s2", false},
		{"r1/z1", "r1/z2", false},
		{"r1", "", false},
	} {
		if got := c.pattern.Matches(c.locality); got != c.want {
			t.Errorf("%q matches %q: %t, want %t", c.pattern, c.locality, got, c.want)
		}
	}
}

func TestParseLocality(t *testing.T) {
	for text, want := range map[string]Locality{
		"": "", "r1": "r1", "r1/z1/": "r1/z1", "r1/z1/s1": "r1/z1/s1", "/z1": "", "r1//s1": "r1//s1",
	} {
		if got := ParseLocality(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
