package config

import (
	"fmt"
	"strings"
)

// PathTemplate is a path of which some segments are left open, as Envoy's
// uri_template: "*" stands for one segment that is not empty, "**" for any number of
// them.
type PathTemplate struct {
	text string
	// before are the segments ahead of "**", all when there is none; rest tells that
	// there is one, and after is the literal text behind it, with its slash.
	before []string
	rest   bool
	after  string
}

// ParsePathTemplate reads a template. As in Envoy an operator is a segment by itself,
// and none comes behind "**".
func ParsePathTemplate(text string) (PathTemplate, error) {
	t := PathTemplate{text: text}
	path, ok := strings.CutPrefix(text, "/")
	if !ok {
		return t, fmt.Errorf("%q does not begin with a slash", text)
	}

	segments := strings.Split(path, "/")
	for i, s := range segments {
		switch {
		case s == "**":
			t.rest = true
			if behind := segments[i+1:]; len(behind) > 0 {
				t.after = "/" + strings.Join(behind, "/")
			}
			if strings.ContainsAny(t.after, "*{}") {
				return t, fmt.Errorf("%q has an operator behind **", text)
			}
			return t, nil
		case s != "*" && strings.ContainsAny(s, "*{}"):
			return t, fmt.Errorf("%q has the segment %q; * and ** are segments by themselves", text, s)
		}
		t.before = append(t.before, s)
	}
	return t, nil
}

// String is the template as it was given.
func (t *PathTemplate) String() string { return t.text }

// Match tells whether a path, without its query, fits.
func (t *PathTemplate) Match(path string) bool {
	for i, want := range t.before {
		if path == "" || path[0] != '/' {
			return false
		}
		path = path[1:]
		end := strings.IndexByte(path, '/')
		if end < 0 {
			end = len(path)
		}
		if want == "*" && end == 0 || want != "*" && path[:end] != want {
			return false
		}
		path = path[end:]
		if path == "" && i < len(t.before)-1 {
			return false
		}
	}

	if !t.rest {
		return path == ""
	}
	return len(path) > len(t.after) && path[0] == '/' && strings.HasSuffix(path, t.after)
}
