package apply

import (
	"fmt"
	"maps"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/api/resource"
)

// FieldChange is one field that is otherwise in two objects, or to become so.
type FieldChange struct {
	Path string
	// From and To are its values; nil: not there.
	From, To any
}

// String writes the change as a line of a comparison.
func (c FieldChange) String() string {
	switch {
	case c.From == nil:
		return fmt.Sprintf("+ %s: %s", c.Path, short(c.To))
	case c.To == nil:
		return fmt.Sprintf("- %s: %s", c.Path, short(c.From))
	}
	return fmt.Sprintf("~ %s: %s → %s", c.Path, short(c.From), short(c.To))
}

// Problem writes what is wrong as long as the change is not made.
func (c FieldChange) Problem() string {
	switch {
	case c.From == nil:
		return fmt.Sprintf("%s: missing, should be %s", c.Path, short(c.To))
	case c.To == nil:
		return fmt.Sprintf("%s: is %s, should not be there", c.Path, short(c.From))
	}
	return fmt.Sprintf("%s: is %s, should be %s", c.Path, short(c.From), short(c.To))
}

// short prints a value in a line.
func short(v any) string {
	s := fmt.Sprintf("%v", v)
	if str, ok := v.(string); ok {
		s = fmt.Sprintf("%q", str)
	}
	const most = 80
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}

// Compare lists what would give a live object the fields of an intent. Fields that
// only the live object has (defaults, status, what others set) are no difference.
func Compare(want, have map[string]any) []FieldChange {
	var out []FieldChange
	compare(want, have, "", &out)
	return out
}

func compare(want, have any, path string, out *[]FieldChange) {
	switch w := want.(type) {
	case map[string]any:
		h, ok := have.(map[string]any)
		if !ok {
			if len(w) > 0 || have != nil {
				*out = append(*out, FieldChange{path, have, want})
			}
			return
		}
		for _, k := range slices.Sorted(maps.Keys(w)) {
			compare(w[k], h[k], child(path, k), out)
		}
	case []any:
		h, ok := have.([]any)
		if !ok || len(h) != len(w) {
			if ok || len(w) > 0 {
				*out = append(*out, FieldChange{path, have, want})
			}
			return
		}
		for i := range w {
			compare(w[i], h[i], fmt.Sprintf("%s[%d]", path, i), out)
		}
	default:
		if !same(want, have) {
			*out = append(*out, FieldChange{path, have, want})
		}
	}
}

func child(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// same compares scalars, numbers by value and quantities by amount. An empty
// string is what the API leaves out.
func same(want, have any) bool {
	if reflect.DeepEqual(want, have) || have == nil && (want == nil || want == "" || want == false) {
		return true
	}
	switch w := want.(type) {
	case string:
		h, ok := have.(string)
		if !ok {
			return false
		}
		wq, err1 := resource.ParseQuantity(w)
		hq, err2 := resource.ParseQuantity(h)
		return err1 == nil && err2 == nil && wq.Cmp(hq) == 0
	case int64:
		h, ok := have.(float64)
		return ok && float64(w) == h
	case float64:
		h, ok := have.(int64)
		return ok && w == float64(h)
	}
	return false
}

// Changed lists what turns one object into another: fields that b has otherwise
// than a, or more, or less.
func Changed(a, b map[string]any) []FieldChange {
	var out []FieldChange
	changed(a, b, "", &out)
	return out
}

func changed(a, b any, path string, out *[]FieldChange) {
	am, aok := a.(map[string]any)
	bm, bok := b.(map[string]any)
	if aok && (bok || b == nil) && len(am) > 0 || bok && a == nil && len(bm) > 0 {
		keys := map[string]any{}
		maps.Copy(keys, am)
		maps.Copy(keys, bm)
		for _, k := range slices.Sorted(maps.Keys(keys)) {
			changed(am[k], bm[k], child(path, k), out)
		}
		return
	}
	al, aok := a.([]any)
	bl, bok := b.([]any)
	if aok && bok {
		for i := range max(len(al), len(bl)) {
			changed(elem(al, i), elem(bl, i), fmt.Sprintf("%s[%d]", path, i), out)
		}
		return
	}
	if !same(a, b) && !same(b, a) {
		*out = append(*out, FieldChange{path, a, b})
	}
}

func elem(l []any, i int) any {
	if i < len(l) {
		return l[i]
	}
	return nil
}
