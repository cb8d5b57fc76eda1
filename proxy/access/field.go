package access

// sameField tells whether an application may take a name for another, and whether only
// because it takes "_" for "-".
func sameField(name, lower string) (same, alias bool) {
	if len(name) != len(lower) {
		return false, false
	}
	for i := range len(name) {
		a, b := name[i], lower[i]
		if 'A' <= a && a <= 'Z' {
			a += 'a' - 'A'
		}
		switch {
		case a == b:
		case (a == '_' || a == '-') && (b == '_' || b == '-'):
			alias = true
		default:
			return false, false
		}
	}
	return true, alias
}

// field asks about a header field, or about a part of the request that stands beside
// them.
func (n *node) field(r *Request) bool {
	m := &n.test.Header
	if n.part != none {
		value := r.part(n.part)
		if n.plain && value != "" {
			return n.compares(value)
		}
		return n.judgeField(value, value != "", value != "" && m.Value.Match(value))
	}
	f := fieldReading{node: n}
	for i := 0; ; i++ {
		name, value, more := r.next(i)
		if !more {
			break
		}
		if same, alias := sameField(name, m.Name); same {
			f.add(value, alias)
		}
	}
	if value, has := r.own(m.Name); has && f.own == 0 {
		f.add(value, false)
	}
	return f.satisfied()
}

// judgeField applies presence and inversion to what one value says.
func (n *node) judgeField(value string, has, matches bool) bool {
	m := &n.test.Header
	switch {
	case m.Present:
		return has != m.Invert
	case !has && !m.MissingIsEmpty:
		return false // as in Envoy, inverted or not
	case !has:
		matches = m.Value.Match(value)
	}
	return matches != m.Invert
}

// fieldReading gathers the fields that an application may take for one.
type fieldReading struct {
	node *node
	// own is how many have the name itself, aliases how many another spelling of it.
	own, aliases int
	list         string // of those that have the name, as one (RFC 9110 section 5.3)
	some, each   bool   // of all: one matches, or all do
}

func (f *fieldReading) add(value string, alias bool) {
	matches := !f.node.test.Header.Present && f.node.test.Header.Value.Match(value)
	f.some = f.some || matches
	f.each = (f.each || f.own+f.aliases == 0) && matches
	switch {
	case alias:
		f.aliases++
		return
	case f.own == 0:
		f.list = value
	default: // rare, and the only case in which there is something to allocate
		f.list += "," + value
	}
	f.own++
}

func (f *fieldReading) satisfied() bool {
	n := f.node
	has := f.own > 0 || n.wide && f.aliases > 0
	if f.own == 0 {
		return n.judgeField("", has, f.some)
	}
	matches := f.own == 1 && f.aliases == 0 && f.each
	if f.own > 1 || f.aliases > 0 {
		whole := n.test.Header.Value.Match(f.list)
		matches = whole && f.each
		if n.wide {
			matches = whole || f.some
		}
	}
	return n.judgeField(f.list, has, matches)
}
