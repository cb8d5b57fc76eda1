package render

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Selector picks objects by KIND:NAMESPACE:NAME, each a shell pattern; an empty
// part picks all.
type Selector [3]string

// ParseSelectors reads selectors separated by commas.
func ParseSelectors(list string) ([]Selector, error) {
	var out []Selector
	for item := range strings.SplitSeq(list, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		s, err := parseSelector(item)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func parseSelector(item string) (Selector, error) {
	parts := strings.Split(item, ":")
	if len(parts) != 3 {
		return Selector{}, fmt.Errorf("%q is not of the form KIND:NAMESPACE:NAME", item)
	}
	for _, p := range parts {
		if _, err := path.Match(p, ""); err != nil {
			return Selector{}, fmt.Errorf("%q: %q is not a pattern", item, p)
		}
	}
	return Selector(parts), nil
}

// Matches reports whether the selector picks an object.
func (s Selector) Matches(o Object) bool {
	for i, have := range []string{o.GetKind(), o.GetNamespace(), o.GetName()} {
		if ok, _ := path.Match(s[i], have); !ok && s[i] != "" {
			return false
		}
	}
	return true
}

// Select returns the objects that one of the selectors picks (all, when there
// are none) and none of ignore.
func Select(objs []Object, selectors, ignore []Selector) []Object {
	picks := func(list []Selector, o Object) bool {
		return slices.ContainsFunc(list, func(s Selector) bool { return s.Matches(o) })
	}
	return slices.DeleteFunc(slices.Clone(objs), func(o Object) bool {
		return len(selectors) > 0 && !picks(selectors, o) || picks(ignore, o)
	})
}

// Renaming makes objects of one name be compared with those of another.
type Renaming struct{ from, to Selector }

// ParseRenamings reads KIND:NS:NAME->KIND:NS:NAME, separated by commas; an
// empty part stays as it is.
func ParseRenamings(list string) ([]Renaming, error) {
	var out []Renaming
	for item := range strings.SplitSeq(list, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		from, to, ok := strings.Cut(item, "->")
		if !ok {
			return nil, fmt.Errorf("%q is not of the form KIND:NAMESPACE:NAME->KIND:NAMESPACE:NAME", item)
		}
		f, err := parseSelector(from)
		if err != nil {
			return nil, err
		}
		t, err := parseSelector(to)
		if err != nil {
			return nil, err
		}
		out = append(out, Renaming{f, t})
	}
	return out, nil
}

// Rename changes the identity of objects in place.
func Rename(objs []Object, renamings []Renaming) {
	for _, o := range objs {
		for _, r := range renamings {
			if !r.from.Matches(o) {
				continue
			}
			if r.to[0] != "" {
				o.SetKind(r.to[0])
			}
			if r.to[1] != "" {
				o.SetNamespace(r.to[1])
			}
			if r.to[2] != "" {
				o.SetName(r.to[2])
			}
			break
		}
	}
}
