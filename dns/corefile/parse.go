package corefile

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// File is a parsed Corefile.
type File struct {
	Text   string
	Blocks []*Block
	// Bare is whether the file is a single server without braces, to which
	// no second one can be added.
	Bare bool
}

// Block is a server block, a snippet "(name)", or a top-level import.
type Block struct {
	Keys       []string
	Directives []*Directive
	// Start and End are byte offsets: of the first key, and behind the
	// closing brace.
	Start, End int
	Line       int
}

// Directive is a line of a block, with what its braces hold.
type Directive struct {
	Name string
	Args []string
	Body []*Directive
	// Start and End are byte offsets: of the name, and behind the last
	// argument or the closing brace.
	Start, End int
	Line       int
}

// token is a word with its place. Quotes are taken off: to CoreDNS a brace in
// quotes is a brace.
type token struct {
	text       string
	start, end int
	line       int
}

// maxDepth bounds the braces within braces; CoreDNS's plugins use one level.
const maxDepth = 16

// scan cuts the text into words, by CoreDNS's rules: white space parts them, a
// quote holds them together, a # ends the line.
func scan(text string) ([]token, error) {
	var out []token
	line, i := 1, 0
	for i < len(text) {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == '\n':
			line++
			i += size
		case unicode.IsSpace(r):
			i += size
		case r == '#':
			i = lineEnd(text, i)
		case r == '"':
			t, next, lines, err := scanQuoted(text, i, line)
			if err != nil {
				return nil, err
			}
			out = append(out, t)
			i, line = next, line+lines
		default:
			start := i
			for i < len(text) {
				r, size = utf8.DecodeRuneInString(text[i:])
				if unicode.IsSpace(r) && r != '\r' {
					break
				}
				i += size
			}
			out = append(out, token{text: word(text[start:i]), start: start, end: i, line: line})
		}
	}
	return out, nil
}

// word is what CoreDNS makes of a run without white space: carriage returns do
// not count, and a # in the middle hides the rest of the run (not of the line).
func word(run string) string {
	run, _, _ = strings.Cut(run, "#")
	return strings.ReplaceAll(run, "\r", "")
}

func scanQuoted(text string, start, line int) (t token, next, lines int, err error) {
	var b strings.Builder
	for i := start + 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text):
			// Two characters are one step, though only a quote loses its backslash:
			// the quote in "\\" closes, as the backslash before it is used up.
			i++
			if text[i] != '"' {
				b.WriteByte(c)
			}
			if text[i] == '\n' {
				lines++
			}
			b.WriteByte(text[i])
		case c == '"':
			return token{text: b.String(), start: start, end: i + 1, line: line}, i + 1, lines, nil
		default:
			if c == '\n' {
				lines++
			}
			b.WriteByte(c)
		}
	}
	return token{}, 0, 0, fmt.Errorf("line %d: a quote is opened and never closed", line)
}

// lineEnd is the offset of the line's newline, or of the end of the text.
func lineEnd(text string, i int) int {
	if n := strings.IndexByte(text[i:], '\n'); n >= 0 {
		return i + n
	}
	return len(text)
}

// Parse reads a Corefile. It checks the structure, not whether CoreDNS knows
// the directives.
func Parse(text string) (*File, error) {
	tokens, err := scan(text)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens}
	f := &File{Text: text}
	for !p.done() {
		b, bare, err := p.block()
		if err != nil {
			return nil, err
		}
		f.Blocks = append(f.Blocks, b)
		if bare {
			f.Bare = true
		}
	}
	return f, nil
}

type parser struct {
	tokens []token
	at     int
}

func (p *parser) done() bool     { return p.at >= len(p.tokens) }
func (p *parser) peek() token    { return p.tokens[p.at] }
func (p *parser) next() token    { p.at++; return p.tokens[p.at-1] }
func (t token) is(s string) bool { return t.text == s }

// block reads keys, and the directives between braces. Without braces, all
// that follows are the directives of a single server.
func (p *parser) block() (b *Block, bare bool, err error) {
	first := p.peek()
	b = &Block{Start: first.start, Line: first.line}
	if first.is("{") || first.is("}") {
		return nil, false, fmt.Errorf("line %d: %q where the name of a zone is expected", first.line, first.text)
	}
	line, more := first.line, false
	for !p.done() {
		t := p.peek()
		if t.is("{") || t.line != line && !more {
			break
		}
		p.at++
		line = t.line
		key, comma := strings.CutSuffix(t.text, ",")
		more = comma
		if t.text != "" {
			b.Keys = append(b.Keys, key)
		}
		b.End = t.end
	}
	if len(b.Keys) > 0 && b.Keys[0] == "import" {
		return b, false, nil
	}
	if p.done() {
		return b, true, nil
	}
	if !p.peek().is("{") {
		b.Directives, err = p.directives(0, true)
		if n := len(b.Directives); n > 0 {
			b.End = b.Directives[n-1].End
		}
		return b, true, err
	}
	open := p.next()
	b.Directives, err = p.directives(1, false)
	if err != nil {
		return nil, false, err
	}
	if p.done() {
		return nil, false, fmt.Errorf("line %d: the brace is never closed", open.line)
	}
	b.End = p.next().end
	return b, false, nil
}

// directives reads up to the closing brace, which it leaves, or the end.
func (p *parser) directives(depth int, bare bool) ([]*Directive, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("line %d: braces are nested too deep", p.peek().line)
	}
	var out []*Directive
	for !p.done() {
		t := p.peek()
		if t.is("}") {
			if bare {
				return nil, fmt.Errorf("line %d: a closing brace without an opening one", t.line)
			}
			return out, nil
		}
		if t.is("{") {
			return nil, fmt.Errorf("line %d: an opening brace without a directive before it", t.line)
		}
		d, err := p.directive(depth)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

func (p *parser) directive(depth int) (*Directive, error) {
	t := p.next()
	d := &Directive{Name: t.text, Start: t.start, End: t.end, Line: t.line}
	for !p.done() {
		a := p.peek()
		if a.line != t.line || a.is("}") {
			return d, nil
		}
		p.at++
		if !a.is("{") {
			d.Args = append(d.Args, a.text)
			d.End = a.end
			continue
		}
		body, err := p.directives(depth+1, false)
		if err != nil {
			return nil, err
		}
		if p.done() {
			return nil, fmt.Errorf("line %d: the brace is never closed", a.line)
		}
		d.Body, d.End = body, p.next().end
		return d, nil
	}
	return d, nil
}
