package apply

import "testing"

// TestUnheededNamesAFew: a sentence stays a sentence however many there are.
func TestUnheededNamesAFew(t *testing.T) {
	u := Unheeded{Kind: "Sidecar", Objects: []string{"a/1", "a/2", "a/3", "a/4", "a/5", "a/6", "a/7"}, Why: "it changes nothing"}
	if got, want := u.String(), "Sidecar a/1, a/2, a/3, a/4, a/5 and 2 more: it changes nothing"; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
}
