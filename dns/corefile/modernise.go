package corefile

import (
	"fmt"
	"strings"
)

// Modernise translates what CoreDNS has dropped since 1.4 into the syntax of
// the version that runs: the directive proxy, and the properties upstream and
// resyncperiod. It returns the new text and a line for each change. What cannot
// be translated is an error that says what to do; for an older CoreDNS, nothing
// changes.
func Modernise(text string, v Version) (string, []string, error) {
	if !v.AtLeast(1, 5) {
		return text, nil, nil
	}
	f, err := Parse(text)
	if err != nil {
		return "", nil, err
	}
	var edits []edit
	var changes []string
	for _, b := range f.Blocks {
		for _, d := range b.Directives {
			if d.Name == "proxy" {
				e, change, err := translateProxy(text, d)
				if err != nil {
					return "", nil, err
				}
				edits, changes = append(edits, e), append(changes, change)
				continue
			}
			for _, property := range d.Body {
				if !dropped(d.Name, property.Name) {
					continue
				}
				from, to := wholeLines(text, property.Start, property.End)
				edits = append(edits, edit{from, to, ""})
				changes = append(changes, fmt.Sprintf("line %d: %s in %s is dropped; CoreDNS needs it no more", property.Line, property.Name, d.Name))
			}
		}
	}
	return apply(text, edits), changes, nil
}

// EnsureReady returns the text with the directive ready in the root server, and
// whether it was missing everywhere. Deployments of CoreDNS since 1.5 probe it,
// and a Corefile of an older manual leaves their pods unready.
func EnsureReady(text string) (string, bool, error) {
	f, err := Parse(text)
	if err != nil {
		return "", false, err
	}
	var root *Block
	for _, b := range f.Blocks {
		for _, d := range b.Directives {
			if d.Name == "ready" {
				return text, false, nil
			}
		}
		for _, k := range b.Keys {
			if z, _, ok := splitKey(k); ok && z == "" && root == nil {
				root = b
			}
		}
	}
	if root == nil || len(root.Directives) == 0 {
		return text, false, nil
	}
	first := root.Directives[0]
	return apply(text, []edit{{first.Start, first.Start, "ready\n" + indentation(text, first)}}), true, nil
}

// indentation is the white space before a directive.
func indentation(text string, d *Directive) string {
	indent := text[strings.LastIndexByte(text[:d.Start], '\n')+1 : d.Start]
	if strings.TrimSpace(indent) != "" {
		return "    "
	}
	return indent
}

// dropped tells whether a plugin's property is one that newer versions of
// CoreDNS refuse and do without.
func dropped(plugin, property string) bool {
	switch plugin {
	case "kubernetes":
		return property == "upstream" || property == "resyncperiod"
	case "file", "auto", "secondary", "etcd", "template", "route53", "federation":
		return property == "upstream"
	}
	return false
}

// translateProxy turns a proxy directive into forward with the same meaning.
func translateProxy(text string, d *Directive) (edit, string, error) {
	if len(d.Args) < 2 {
		return edit{}, "", fmt.Errorf("line %d: proxy names no server to send questions to; write forward . ADDRESS in its place", d.Line)
	}
	indent := indentation(text, d)
	var body, lost []string
	for _, o := range d.Body {
		line, known := forwardOption(o)
		switch {
		case !known:
			return edit{}, "", fmt.Errorf("line %d: forward has nothing like proxy's %q; rewrite the directive by hand", o.Line, strings.TrimSpace(o.Name+" "+strings.Join(o.Args, " ")))
		case line == "":
			lost = append(lost, o.Name)
		default:
			body = append(body, indent+"    "+line+"\n")
		}
	}
	out := "forward " + strings.Join(d.Args, " ")
	if len(body) > 0 {
		out += " {\n" + strings.Join(body, "") + indent + "}"
	}
	change := fmt.Sprintf("line %d: proxy becomes forward", d.Line)
	if len(lost) > 0 {
		change += ", without " + strings.Join(lost, ", ") + ", which it has no use for"
	}
	return edit{d.Start, d.End, out}, change, nil
}

// forwardOption translates one property; line is "" for one without a
// counterpart that forward does well without.
func forwardOption(o *Directive) (line string, known bool) {
	args := strings.Join(o.Args, " ")
	switch o.Name {
	case "except", "max_fails":
		return o.Name + " " + args, true
	case "policy":
		if args == "least_conn" {
			args = "random"
		}
		return "policy " + args, true
	case "fail_timeout", "health_check", "spray":
		return "", true
	case "protocol":
		switch args {
		case "dns":
			return "", true
		case "dns force_tcp":
			return "force_tcp", true
		}
	}
	return "", false
}
