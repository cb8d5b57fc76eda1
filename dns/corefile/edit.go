package corefile

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// edit replaces a range of bytes.
type edit struct {
	start, end int
	text       string
}

// apply makes the edits, which do not overlap.
func apply(text string, edits []edit) string {
	sort.Slice(edits, func(i, j int) bool { return edits[i].start < edits[j].start })
	var b strings.Builder
	at := 0
	for _, e := range edits {
		b.WriteString(text[at:e.start])
		b.WriteString(e.text)
		at = e.end
	}
	b.WriteString(text[at:])
	return b.String()
}

// Version of CoreDNS, as far as its configuration's syntax depends on it.
type Version struct{ Major, Minor int }

// ParseVersion reads "1.15.0", "v1.8.6-eksbuild.1" and the like.
func ParseVersion(s string) (Version, bool) {
	s = strings.TrimPrefix(s, "v")
	major, rest, ok := strings.Cut(s, ".")
	minor := rest
	if i := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		minor = rest[:i]
	}
	a, errA := strconv.Atoi(major)
	b, errB := strconv.Atoi(minor)
	if !ok || errA != nil || errB != nil || a < 0 || a > 99 {
		return Version{}, false
	}
	return Version{a, b}, true
}

// AtLeast compares two versions.
func (v Version) AtLeast(major, minor int) bool {
	return v.Major > major || v.Major == major && v.Minor >= minor
}

// String implements fmt.Stringer.
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// forwards is whether the directive forward is there: it took the place of
// proxy in 1.4, and proxy was removed in 1.5.
func (v Version) forwards() bool { return v.AtLeast(1, 4) }

// Stub sends a zone's questions to other servers.
type Stub struct {
	// Zone in lower case without a final dot.
	Zone string
	// Upstreams are the servers' addresses.
	Upstreams []netip.Addr
}

func (s Stub) begin() string { return "# BEGIN isthmus " + s.Zone }
func (s Stub) end() string   { return "# END isthmus " + s.Zone }

// render writes the block between its markers.
func (s Stub) render(port string, v Version) string {
	directive := "forward"
	if !v.forwards() {
		directive = "proxy"
	}
	var to []string
	for _, a := range s.Upstreams {
		to = append(to, a.String())
	}
	return fmt.Sprintf("%s (written by isthmus x dns apply; edits between these lines are lost)\n%s:%s {\n    errors\n    cache 30\n    %s . %s\n}\n%s\n",
		s.begin(), s.Zone, port, directive, strings.Join(to, " "), s.end())
}

// ForeignError tells of a block for the stub's zone that somebody else wrote.
type ForeignError struct {
	Zone, Why string
	Line      int
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("line %d of the Corefile has a block for the zone %s that is not ours: %s; remove that block, or name another zone", e.Line, e.Zone, e.Why)
}

// Set returns the text with the stub in it: added at the end, or in the place
// of what Set wrote before. A block for the zone that does nothing but send its
// questions to the same servers (as written by hand after an older manual) is
// taken over. Any other block for it is a *ForeignError.
func (s Stub) Set(text string, v Version) (string, error) {
	f, err := Parse(text)
	if err != nil {
		return "", err
	}
	if f.Bare {
		return "", fmt.Errorf("the Corefile is a single server without braces, to which no second one can be added; put braces around its directives")
	}
	block := s.render(f.port(), v)
	start, end, found, err := s.marked(text)
	if err != nil {
		return "", err
	}
	edits := []edit{}
	if found {
		edits = append(edits, edit{start, end, block})
	}
	for _, b := range f.blocksFor(s.Zone) {
		if found && b.Start >= start && b.End <= end {
			continue
		}
		if why := s.foreign(b); why != "" {
			return "", &ForeignError{Zone: s.Zone, Why: why, Line: b.Line}
		}
		// The first one is where the stub goes; others would clash with it.
		replacement := ""
		if len(edits) == 0 {
			replacement = block
		}
		from, to := wholeLines(text, b.Start, b.End)
		if from > 0 && text[from-1] != '\n' {
			replacement = "\n" + replacement // a marker has a line to itself
		}
		edits = append(edits, edit{from, to, replacement})
	}
	if len(edits) == 0 {
		glue := ""
		if text != "" && !strings.HasSuffix(text, "\n") {
			glue = "\n"
		}
		return text + glue + block, nil
	}
	return apply(text, edits), nil
}

// Remove returns the text without the block that Set wrote, and whether there
// was one.
func (s Stub) Remove(text string) (string, bool, error) {
	start, end, found, err := s.marked(text)
	if err != nil || !found {
		return text, false, err
	}
	return text[:start] + text[end:], true, nil
}

// Find returns the upstreams that the text has for the stub's zone; present is
// whether there is any block for it, and ours whether Set wrote it.
func (s Stub) Find(text string) (upstreams []string, present, ours bool, err error) {
	f, err := Parse(text)
	if err != nil {
		return nil, false, false, err
	}
	start, end, found, err := s.marked(text)
	if err != nil {
		return nil, false, false, err
	}
	for _, b := range f.blocksFor(s.Zone) {
		present = true
		ours = found && b.Start >= start && b.End <= end
		for _, d := range b.Directives {
			if (d.Name == "forward" || d.Name == "proxy") && len(d.Args) > 1 {
				upstreams = append(upstreams, d.Args[1:]...)
			}
		}
	}
	return upstreams, present, ours, nil
}

// marked finds the lines from the begin marker to the end marker.
func (s Stub) marked(text string) (start, end int, found bool, err error) {
	start = -1
	for at := 0; at < len(text); {
		stop := lineEnd(text, at)
		line := strings.TrimSpace(text[at:stop])
		after := min(stop+1, len(text))
		switch {
		case start < 0 && isMarker(line, s.begin()):
			start = at
		case start >= 0 && isMarker(line, s.end()):
			return start, after, true, nil
		}
		at = after
	}
	if start >= 0 {
		return 0, 0, false, fmt.Errorf("the Corefile has the line %q without %q behind it; remove what is left of the block", s.begin(), s.end())
	}
	return 0, 0, false, nil
}

func isMarker(line, marker string) bool {
	rest, ok := strings.CutPrefix(line, marker)
	return ok && (rest == "" || rest[0] == ' ')
}

// foreign tells why a block is not ours to replace, "" when it is.
func (s Stub) foreign(b *Block) string {
	if len(b.Keys) != 1 {
		return "it serves other zones as well"
	}
	for _, d := range b.Directives {
		switch d.Name {
		case "errors", "cache", "log", "loadbalance", "reload":
		case "forward", "proxy":
			if len(d.Args) > 0 && d.Args[0] != "." {
				return "it forwards only " + d.Args[0]
			}
			// No server at all is what a shell leaves of a variable that
			// was never set.
			for _, to := range d.Args[min(1, len(d.Args)):] {
				addr, err := netip.ParseAddr(to)
				if err != nil || !slices.Contains(s.Upstreams, addr) {
					return "it forwards to " + to
				}
			}
		default:
			return fmt.Sprintf("it uses %q", d.Name)
		}
	}
	return ""
}

// wholeLines widens a range to its lines, when nothing else is on them.
func wholeLines(text string, start, end int) (from, to int) {
	from = strings.LastIndexByte(text[:start], '\n') + 1
	if strings.TrimSpace(text[from:start]) != "" {
		from = start
	}
	to = lineEnd(text, end)
	if rest := strings.TrimSpace(text[end:to]); rest != "" && rest[0] != '#' {
		return from, end
	}
	return from, min(to+1, len(text))
}

// blocksFor are the blocks that serve exactly the zone, over plain DNS on the
// port of the root.
func (f *File) blocksFor(zone string) []*Block {
	port := f.port()
	var out []*Block
	for _, b := range f.Blocks {
		for _, k := range b.Keys {
			if z, p, ok := splitKey(k); ok && z == zone && p == port {
				out = append(out, b)
				break
			}
		}
	}
	return out
}

// port is that of the server for the root zone, 53 without one.
func (f *File) port() string {
	for _, b := range f.Blocks {
		for _, k := range b.Keys {
			if z, p, ok := splitKey(k); ok && z == "" {
				return p
			}
		}
	}
	return "53"
}

// splitKey reads a server block's key: [dns://]ZONE[:PORT]. The root zone is
// "". ok is false for other transports and for snippets.
func splitKey(key string) (zone, port string, ok bool) {
	if scheme, rest, has := strings.Cut(key, "://"); has {
		if scheme != "dns" {
			return "", "", false
		}
		key = rest
	}
	if isSnippet(key) || key == "import" {
		return "", "", false
	}
	zone, port = key, "53"
	if i := strings.LastIndexByte(key, ':'); i >= 0 {
		if n, err := strconv.ParseUint(key[i+1:], 10, 16); err == nil {
			zone, port = key[:i], strconv.FormatUint(n, 10)
		}
	}
	return strings.ToLower(strings.TrimSuffix(zone, ".")), port, true
}

func isSnippet(key string) bool {
	return strings.HasPrefix(key, "(") && strings.HasSuffix(key, ")")
}

// Reloads is whether CoreDNS notices a changed file by itself: some server has
// the directive reload.
func (f *File) Reloads() bool {
	for _, b := range f.Blocks {
		for _, d := range b.Directives {
			if d.Name == "reload" {
				return true
			}
		}
	}
	return false
}
