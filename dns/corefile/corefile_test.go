package corefile

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/coredns/caddy/caddyfile"
	"github.com/google/go-cmp/cmp"
)

// seed is the Corefile that a well-known manual has people apply, with the
// directives of CoreDNS 1.3.
const seed = `.:53 {
errors
health
kubernetes cluster.local in-addr.arpa ip6.arpa {
pods insecure
upstream
fallthrough in-addr.arpa ip6.arpa
}
prometheus :9153
proxy . /etc/resolv.conf
cache 30
loop
reload
loadbalance
}
global:53 {
errors
cache 30
proxy . 10.96.7.7
}
`

const today = `.:53 {
    errors
    health { # with a comment
        lameduck 5s
    }
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
    }
    forward . /etc/resolv.conf
    reload
}
`

const ours = `# BEGIN isthmus global (written by isthmus x dns apply; edits between these lines are lost)
global:53 {
    errors
    cache 30
    forward . 10.96.7.7
}
# END isthmus global
`

func stub() Stub {
	return Stub{Zone: "global", Upstreams: []netip.Addr{netip.MustParseAddr("10.96.7.7")}}
}

func TestSet(t *testing.T) {
	v115, v13 := Version{1, 15}, Version{1, 3}
	rewritten := strings.ReplaceAll(ours, "10.96.7.7", "10.96.1.1")
	for name, c := range map[string]struct {
		text    string
		version Version
		want    string
	}{
		"added at the end":        {today, v115, today + ours},
		"no newline at the end":   {strings.TrimSuffix(today, "\n"), v115, today + ours},
		"there already":           {today + ours, v115, today + ours},
		"new address":             {rewritten + today, v115, ours + today},
		"edited":                  {strings.Replace(ours, "cache 30", "cache 9", 1), v115, ours},
		"old CoreDNS":             {today, v13, today + strings.Replace(ours, "forward", "proxy", 1)},
		"written by hand":         {today + "global:53 {\n  errors\n  forward . 10.96.7.7\n} # by hand\n# kept\n", v115, today + ours + "# kept\n"},
		"by hand, no variable":    {"global { proxy . }\n" + today, v115, ours + today},
		"by hand, twice":          {today + ours + "GLOBAL.:53 {\n proxy . 10.96.7.7\n}\n", v115, today + ours},
		"another port":            {"dns://.:5353 {\n}\n", v115, "dns://.:5353 {\n}\n" + strings.Replace(ours, ":53", ":5353", 1)},
		"that port is another's":  {today + "global:5300 {\n whoami\n}\n", v115, today + "global:5300 {\n whoami\n}\n" + ours},
		"that zone is over TLS":   {today + "tls://global:53 {\n whoami\n}\n", v115, today + "tls://global:53 {\n whoami\n}\n" + ours},
		"the seed's":              {seed, v13, strings.Split(seed, "global:53")[0] + strings.Replace(ours, "forward", "proxy", 1)},
		"imports and snippets":    {"(snip) {\n errors\n}\nimport custom/*.server\n" + today, v115, "(snip) {\n errors\n}\nimport custom/*.server\n" + today + ours},
		"quotes, comments, words": {". {\n log . \"{class} } # x\" # }\n}\n", v115, ". {\n log . \"{class} } # x\" # }\n}\n" + ours},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := stub().Set(c.text, c.version)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
			if again, err := stub().Set(got, c.version); err != nil || again != got {
				t.Errorf("a second time changes it: %v", err)
			}
			if upstreams, present, mine, err := stub().Find(got); err != nil || !present || !mine || cmp.Diff([]string{"10.96.7.7"}, upstreams) != "" {
				t.Errorf("Find: %v present=%v ours=%v %v", upstreams, present, mine, err)
			}
		})
	}
}

func TestSetRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"another server": {today + "global:53 {\n forward . 10.0.0.1\n}\n", "line 13 of the Corefile has a block for the zone global that is not ours: it forwards to 10.0.0.1"},
		"other zones":    {"global, example.org {\n forward . 10.96.7.7\n}\n", "other zones"},
		"other uses":     {"global {\n file db\n}\n", `"file"`},
		"part of it":     {"global {\n forward bar.global 10.96.7.7\n}\n", "only bar.global"},
		"bare":           {".:53\nforward . 1.1.1.1\n", "braces"},
		"half":           {today + "# BEGIN isthmus global\nglobal {\n", "never closed"},
		"half a marker":  {"# BEGIN isthmus global\n" + today, "END isthmus global"},
		"brace":          {"}\n", "line 1"},
		"no directive":   {". {\n {\n}\n}\n", "line 2"},
		"quote":          {". {\n log \"\n}\n", "line 2"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := stub().Set(c.text, Version{1, 15})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	_, err := stub().Set("global {\n whoami\n}\n", Version{1, 15})
	var foreign *ForeignError
	if !errors.As(err, &foreign) || foreign.Line != 1 {
		t.Errorf("%v is no ForeignError of line 1", err)
	}
}

func TestRemove(t *testing.T) {
	for _, text := range []string{today, "", seed} {
		with := text + ours
		got, found, err := stub().Remove(with)
		if err != nil || !found || got != text {
			t.Errorf("found=%v %v: %q", found, err, got)
		}
	}
	if got, found, err := stub().Remove(today); err != nil || found || got != today {
		t.Errorf("found=%v %v", found, err)
	}
	other := Stub{Zone: "globalx"}
	if _, found, _ := other.Remove(today + ours); found {
		t.Error("another zone's block was taken")
	}
}

func TestModernise(t *testing.T) {
	got, changes, err := Modernise(seed, Version{1, 15})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(strings.ReplaceAll(seed, "proxy", "forward"), "upstream\n", "", 1)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	wantChanges := []string{
		"line 6: upstream in kubernetes is dropped; CoreDNS needs it no more",
		"line 10: proxy becomes forward",
		"line 19: proxy becomes forward",
	}
	if d := cmp.Diff(wantChanges, changes); d != "" {
		t.Error(d)
	}
	for name, text := range map[string]string{"today's": today, "old CoreDNS": seed} {
		v := Version{1, 15}
		if name == "old CoreDNS" {
			v = Version{1, 4}
		}
		if got, changes, err := Modernise(text, v); err != nil || got != text || len(changes) > 0 {
			t.Errorf("%s: changed: %v %v", name, changes, err)
		}
	}
	got, _, err = Modernise(". {\n  proxy . 1.1.1.1:53 9.9.9.9 {\n    policy least_conn\n    except a.org b.org\n    fail_timeout 5s\n    protocol dns force_tcp\n  } # x\n}\n", Version{1, 8})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(". {\n  forward . 1.1.1.1:53 9.9.9.9 {\n      policy random\n      except a.org b.org\n      force_tcp\n  } # x\n}\n", got); d != "" {
		t.Error(d)
	}
	for text, want := range map[string]string{
		". {\n proxy . 8.8.8.8 {\n  protocol https_google\n }\n}\n": "line 3",
		". {\n proxy .\n}\n": "line 2",
	} {
		if _, _, err := Modernise(text, Version{1, 8}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestEnsureReady(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"missing":  {"global {\n errors\n}\n.:53 {\n    errors\n    health\n}\n", "global {\n errors\n}\n.:53 {\n    ready\n    errors\n    health\n}\n"},
		"one line": {". { errors\n}\n", ". { ready\n    errors\n}\n"},
		"there":    {".:53 {\n errors\n ready :8181\n}\n", ""},
		"no root":  {"global {\n errors\n}\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, missing, err := EnsureReady(c.text)
			if err != nil || missing != (c.want != "") {
				t.Fatalf("missing=%v %v", missing, err)
			}
			if c.want == "" {
				c.want = c.text
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestVersions(t *testing.T) {
	for s, want := range map[string]Version{"1.15.0": {1, 15}, "v1.8.6-eksbuild.1": {1, 8}, "1.3": {1, 3}, "v1.12_x": {1, 12}} {
		if v, ok := ParseVersion(s); !ok || v != want {
			t.Errorf("%s: %v %v", s, v, ok)
		}
	}
	for _, s := range []string{"", "latest", "v1", "1.x", "20260101.1"} {
		if v, ok := ParseVersion(s); ok {
			t.Errorf("%q was read as %v", s, v)
		}
	}
	if f, err := Parse(today); err != nil || !f.Reloads() {
		t.Error("reload was not seen")
	}
	if f, err := Parse(". {\n forward . 1.1.1.1 {\n reload\n }\n}\n"); err != nil || f.Reloads() {
		t.Error("another plugin's property was taken for the directive reload")
	}
}

// FuzzCorefile holds the reader against CoreDNS's own, and the edits to what
// they promise: they can be taken back, and repeating them changes nothing.
func FuzzCorefile(f *testing.F) {
	for _, s := range []string{seed, today, ours, today + ours, ".:53\nwhoami\n", "(a) {\n}\n. {\n \"q \\\" }\" {\n }\n}\n", "a, b:1\n{\n}\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := Parse(text)
		if err != nil {
			return
		}
		compare(t, parsed)
		got, err := stub().Set(text, Version{1, 15})
		if err != nil {
			return
		}
		again, err := stub().Set(got, Version{1, 15})
		if err != nil || again != got {
			t.Fatalf("a second Set: %v\n%q\n%q", err, got, again)
		}
		if _, present, _, _ := stub().Find(text); !present && !strings.Contains(text, "# BEGIN isthmus global") {
			back, found, err := stub().Remove(got)
			if err != nil || !found || strings.TrimSuffix(back, "\n") != strings.TrimSuffix(text, "\n") {
				t.Fatalf("Remove does not take Set back: %v\n%q\n%q", err, text, back)
			}
		}
		modern, _, err := Modernise(text, Version{1, 15})
		if err != nil {
			return
		}
		if again, changes, err := Modernise(modern, Version{1, 15}); err != nil || again != modern {
			t.Fatalf("a second Modernise: %v %v\n%q", err, changes, modern)
		}
	})
}

// compare checks that CoreDNS reads the same zones from the file. Imports and
// environment variables are CoreDNS's business, and a ConfigMap is UTF-8.
func compare(t *testing.T, f *File) {
	if !utf8.ValidString(f.Text) || strings.Contains(f.Text, "import") || strings.Contains(f.Text, "{$") || strings.Contains(f.Text, "{%") {
		return
	}
	theirs, err := caddyfile.Parse("Corefile", strings.NewReader(f.Text), nil)
	if err != nil {
		return
	}
	var want, got []string
	for _, b := range theirs {
		want = append(want, strings.Join(b.Keys, " "))
	}
	for _, b := range f.Blocks {
		if len(b.Keys) > 1 || len(b.Keys) == 1 && !isSnippet(b.Keys[0]) {
			got = append(got, strings.Join(b.Keys, " "))
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("CoreDNS reads other zones from %q: %s", f.Text, d)
	}
}
