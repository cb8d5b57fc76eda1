package model

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func prefix(text string) *StringMatch { return &StringMatch{Kind: StringPrefix, Value: text} }

func exact(text string) *StringMatch { return &StringMatch{Kind: StringExact, Value: text} }

func regex(text string) *StringMatch { return &StringMatch{Kind: StringRegex, Value: text} }

// TestMergeMatches: the conditions of a delegate are within the root's, or its route is
// left out, with the part that is not.
func TestMergeMatches(t *testing.T) {
	for name, c := range map[string]struct {
		root, delegate, want HTTPMatch
		conflict             string
	}{
		"only the root's": {
			root: HTTPMatch{Name: "r", URI: prefix("/a"), IgnoreCase: true, Port: 80, Namespace: "x", Gateways: []string{"g"}, Labels: map[string]string{"a": "b"}},
			want: HTTPMatch{Name: "r", URI: prefix("/a"), IgnoreCase: true, Port: 80, Namespace: "x", Gateways: []string{"g"}, Labels: map[string]string{"a": "b"}},
		},
		"a longer prefix": {
			root: HTTPMatch{Name: "r", URI: prefix("/a")}, delegate: HTTPMatch{Name: "d", URI: prefix("/a/b"), Port: 80},
			want: HTTPMatch{Name: "r-d", URI: prefix("/a/b"), Port: 80},
		},
		"one path":                 {root: HTTPMatch{URI: prefix("/a")}, delegate: HTTPMatch{URI: exact("/a/b")}, want: HTTPMatch{URI: exact("/a/b")}},
		"the same expression":      {root: HTTPMatch{URI: regex("/a.*")}, delegate: HTTPMatch{URI: regex("/a.*")}, want: HTTPMatch{URI: regex("/a.*")}},
		"a shorter prefix":         {root: HTTPMatch{URI: prefix("/a/b")}, delegate: HTTPMatch{URI: prefix("/a")}, conflict: "uri"},
		"a prefix of one path":     {root: HTTPMatch{URI: exact("/a")}, delegate: HTTPMatch{URI: prefix("/a")}, conflict: "uri"},
		"within an expression":     {root: HTTPMatch{URI: regex("/a.*")}, delegate: HTTPMatch{URI: exact("/a")}, conflict: "uri"},
		"an expression":            {root: HTTPMatch{URI: prefix("/")}, delegate: HTTPMatch{URI: regex("/a.*")}, conflict: "uri"},
		"in whatever case":         {root: HTTPMatch{URI: prefix("/a")}, delegate: HTTPMatch{URI: exact("/a"), IgnoreCase: true}, conflict: "uri"},
		"another port":             {root: HTTPMatch{Port: 80}, delegate: HTTPMatch{Port: 81}, conflict: "port"},
		"another namespace":        {root: HTTPMatch{Namespace: "a"}, delegate: HTTPMatch{Namespace: "b"}, conflict: "sourceNamespace"},
		"another gateway":          {root: HTTPMatch{Gateways: []string{"a"}}, delegate: HTTPMatch{Gateways: []string{"a", "b"}}, conflict: "gateways"},
		"another label":            {root: HTTPMatch{Labels: map[string]string{"a": "1"}}, delegate: HTTPMatch{Labels: map[string]string{"a": "2"}}, conflict: "sourceLabels"},
		"another value":            {root: HTTPMatch{Fields: []FieldMatch{{Name: "X", Value: exact("1")}}}, delegate: HTTPMatch{Fields: []FieldMatch{{Name: "x", Value: exact("2")}}}, conflict: "headers[X]"},
		"another method":           {root: HTTPMatch{Fields: []FieldMatch{{Name: ":method", Value: exact("GET")}}}, delegate: HTTPMatch{Fields: []FieldMatch{{Name: ":method", Value: exact("PUT")}}}, conflict: "method"},
		"another parameter":        {root: HTTPMatch{Query: []FieldMatch{{Name: "q", Value: exact("1")}}}, delegate: HTTPMatch{Query: []FieldMatch{{Name: "q", Value: exact("2")}}}, conflict: "queryParams[q]"},
		"presence and value, root": {root: HTTPMatch{Fields: []FieldMatch{{Name: "x", Value: exact("1")}}}, delegate: HTTPMatch{Fields: []FieldMatch{{Name: "x"}}}, want: HTTPMatch{Fields: []FieldMatch{{Name: "x", Value: exact("1")}}}},
		"presence and value":       {root: HTTPMatch{Fields: []FieldMatch{{Name: "x"}}}, delegate: HTTPMatch{Fields: []FieldMatch{{Name: "x", Value: exact("1")}}}, want: HTTPMatch{Fields: []FieldMatch{{Name: "x", Value: exact("1")}}}},
		"what must not be": {
			root: HTTPMatch{Fields: []FieldMatch{{Name: "x", Value: exact("1"), Not: true}}}, delegate: HTTPMatch{Fields: []FieldMatch{{Name: "x", Value: exact("2"), Not: true}, {Name: "y"}}},
			want: HTTPMatch{Fields: []FieldMatch{{Name: "x", Value: exact("2"), Not: true}, {Name: "y"}, {Name: "x", Value: exact("1"), Not: true}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, conflict := c.root.and(&c.delegate)
			if conflict != c.conflict || conflict == "" && !reflect.DeepEqual(got, c.want) {
				t.Errorf("%+v, conflict %q\nwant %+v, %q", got, conflict, c.want, c.conflict)
			}
		})
	}
}

// TestWithDelegates: the delegate's routes take the place of the root's, within its
// conditions and with what it says where the delegate says nothing.
func TestWithDelegates(t *testing.T) {
	to := []WeightedDestination{{Host: "web", Weight: 1}}
	delegate := &VirtualService{Namespace: "b", Name: "d", HTTP: []HTTPRoute{
		{Name: "one", Matches: []HTTPMatch{{URI: prefix("/a/1")}}, Destinations: to, Timeout: time.Second},
		{Name: "out", Matches: []HTTPMatch{{URI: prefix("/b")}}, Destinations: to},
		{Destinations: to},
	}}
	root := &VirtualService{Namespace: "a", Name: "r", Hosts: []string{"web"}, HTTP: []HTTPRoute{
		{Name: "root", Matches: []HTTPMatch{{URI: prefix("/a")}, {URI: prefix("/c"), Port: 80}}, Delegate: &Delegate{"b", "d"}, Timeout: time.Minute, Rewrite: &HTTPRewrite{URI: "/"}},
		{Name: "gone", Delegate: &Delegate{"b", "none"}},
		{Name: "last", Destinations: to},
	}}
	find := func(namespace, name string) *VirtualService {
		if namespace == "b" && name == "d" {
			return delegate
		}
		return nil
	}

	merged, notes := root.WithDelegates(root.DelegatesOf(find, nil))
	var got []string
	for _, r := range merged.HTTP {
		line := fmt.Sprintf("%s %v", r.Name, r.Timeout)
		for _, m := range r.Matches {
			line += " " + m.URI.Value
		}
		got = append(got, line+" "+r.Destinations[0].Namespace)
	}
	want := []string{"root-one 1s /a/1 b", "root 1m0s /a /c b", "last 0s "}
	if !slices.Equal(got, want) {
		t.Errorf("routes %q\nwant %q", got, want)
	}
	if len(notes) != 1 || !strings.HasPrefix(notes[0], "spec.http[0].delegate: http[1].match[0].uri is not within what the root leaves to it of VirtualService b/d") {
		t.Errorf("notes %q", notes)
	}
	if notes := root.DelegateNotes(find, nil); len(notes) != 2 || !strings.HasPrefix(notes[0], "spec.http[1].delegate: VirtualService b/none does not exist") {
		t.Errorf("notes %q", notes)
	}
	if root.HTTP[0].Delegate == nil || delegate.HTTP[0].Destinations[0].Namespace != "" {
		t.Error("rows have changed")
	}

	// A delegate that is not for the root's namespace.
	delegate.ExportByDefault = true
	if list := root.DelegatesOf(find, Exports{"."}); list[0] != nil {
		t.Error("a delegate that is shown to its own namespace alone is used by another")
	}
}
