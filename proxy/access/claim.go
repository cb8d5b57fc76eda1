package access

// claim asks about a claim of the request's token. Numbers and the like satisfy nothing, as
// in Envoy.
func (n *node) claim(claims map[string]any) bool {
	path := n.test.Claim
	for _, name := range path[:len(path)-1] {
		claims, _ = claims[name].(map[string]any)
	}

	switch value := claims[path[len(path)-1]].(type) {
	case string:
		return n.test.Scalar && n.test.Text.Match(value)
	case []any:
		if !n.test.List {
			return false
		}
		for _, one := range value {
			if text, ok := one.(string); ok && n.test.Text.Match(text) {
				return true
			}
		}
	}
	return false
}
