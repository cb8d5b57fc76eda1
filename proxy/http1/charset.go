package http1

// charset is a set of bytes: 1 for those that are in it. It is no array of bool, as those of several
// bytes are combined by an AND.
type charset [256]uint8

func charsetOf(chars string) (t charset) {
	for i := range len(chars) {
		t[chars[i]] = 1
	}
	return t
}

// holds reports whether all bytes of s are in the set. Eight bytes make one branch: every request's target and host
// come through here.
func (t *charset) holds(s string) bool {
	for len(s) >= 8 {
		w := s[:8]
		if t[w[0]]&t[w[1]]&t[w[2]]&t[w[3]]&t[w[4]]&t[w[5]]&t[w[6]]&t[w[7]] == 0 {
			return false
		}
		s = s[8:]
	}
	for i := range len(s) {
		if t[s[i]] == 0 {
			return false
		}
	}
	return true
}
