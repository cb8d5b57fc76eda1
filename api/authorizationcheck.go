package api

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Problems lists what is wrong with a check, each with its field.
func (c *AuthCheck) Problems() []string {
	var p problems
	switch c.About {
	case AuthUnknown:
		p.addf(strings.TrimSuffix(c.at, ".values")+".key", "%s", unknownKey(c.Name))
		return p
	case AuthHeader:
		checkFieldName(&p, strings.TrimSuffix(c.at, ".values")+".key", c.Name)
	case AuthClaim:
		if slices.Contains(c.Claim, "") {
			p.addf(strings.TrimSuffix(c.at, ".values")+".key", "names a claim that is empty; give request.auth.claims[NAME], or [OUTER][INNER] for one within an object")
		}
	}

	if len(c.Values) == 0 && len(c.NotValues) == 0 {
		p.addf(c.at, "is empty, and so is notValues; say what is compared")
	}
	for i, v := range c.Values {
		c.checkValue(&p, indexed(c.at, i), v)
	}
	for i, v := range c.NotValues {
		c.checkValue(&p, indexed(c.notAt, i), v)
	}
	return p
}

func unknownKey(key string) string {
	if strings.HasPrefix(key, "experimental.envoy.filters.") {
		return strconv.Quote(key) + " asks for what an Envoy filter says, and there are no such filters here; remove the condition"
	}
	var known []string
	for _, a := range conditionKeys() {
		known = append(known, string(a))
	}
	return strconv.Quote(key) + " is no key; give one of " + strings.Join(known, ", ") +
		", request.headers[NAME], request.auth.claims[NAME]"
}

// checkFieldName notes what is no header field: parts of a request that stand beside the
// fields have operations of their own, which know their forms.
func checkFieldName(p *problems, path, name string) {
	switch {
	case name == "host" || name == ":authority":
		p.addf(path, "%q is the host of a request; use to[].operation.hosts", name)
	case strings.HasPrefix(name, ":"):
		p.addf(path, "%q is no header field; use to[].operation.methods or paths", name)
	case !isFieldName(name):
		p.addf(path, "%q is no name of a header field", name)
	}
}

func (c *AuthCheck) checkValue(p *problems, path, v string) {
	switch {
	case v == "":
		p.addf(path, "is empty; give a value, or \"*\" for any that is there")
		return
	case strings.ContainsAny(v, "\r\n\x00"):
		p.addf(path, "%q holds a line end, which no request does", v)
		return
	}

	switch c.About {
	case AuthPrincipal:
		if strings.HasPrefix(v, "spiffe://") {
			p.addf(path, "%q would match nobody: identities are written without spiffe://, as TRUSTDOMAIN/ns/NAMESPACE/sa/ACCOUNT", v)
		}
		checkStars(p, path, v)
	case AuthSourceIP, AuthRemoteIP, AuthDestinationIP:
		if _, err := ParseBlock(v); err != nil {
			p.addf(path, "%q is neither an IP address nor a CIDR", v)
		}
	case AuthDestinationPort:
		if n, err := strconv.ParseUint(v, 10, 16); err != nil || n == 0 {
			p.addf(path, "%q is no port; give 1 to 65535, without a wildcard", v)
		}
	case AuthServiceAccount:
		checkServiceAccount(p, path, v)
	case AuthPath:
		if strings.ContainsAny(v, "{}") {
			checkPathTemplate(p, path, v)
			return
		}
		checkStars(p, path, v)
	case AuthNamespace, AuthTrustDomain:
		if strings.Contains(v, "/") {
			p.addf(path, "%q holds a slash, which no name of the kind does", v)
		}
		checkStars(p, path, v)
	default:
		checkStars(p, path, v)
	}
}

// ParseBlock reads an address or a CIDR.
func ParseBlock(v string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(v); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	block, err := netip.ParsePrefix(v)
	return block.Masked(), err
}

// checkStars notes stars that stand for nothing: one at the end or at the beginning does,
// any other would be compared as it is, which nobody means.
func checkStars(p *problems, path, v string) {
	middle := strings.TrimSuffix(v, "*")
	if middle == v || middle == "" {
		middle = strings.TrimPrefix(v, "*")
	}
	if strings.Contains(middle, "*") {
		p.addf(path, "%q has a star that stands for nothing: give one at the beginning, one at the end, or \"*\" alone", v)
	}
}

// checkServiceAccount notes what is neither NAME nor NAMESPACE/NAME.
func checkServiceAccount(p *problems, path, v string) {
	namespace, name, both := strings.Cut(v, "/")
	if !both {
		namespace, name = "default", v
	}
	if len(validation.IsDNS1123Label(namespace)) > 0 || len(validation.IsDNS1123Subdomain(name)) > 0 {
		p.addf(path, "%q is no service account; give NAMESPACE/NAME, or NAME for one of the policy's own namespace, without wildcards", v)
	}
}

// checkPathTemplate notes what Envoy's uri_template takes for none.
func checkPathTemplate(p *problems, path, v string) {
	rest := false
	segments := strings.Split(v, "/")
	if segments[0] != "" {
		p.addf(path, "%q does not begin with a slash", v)
	}
	for _, s := range segments[1:] {
		switch {
		case s == "{*}" && !rest:
		case s == "{**}" && !rest:
			rest = true
		case s == "{*}" || s == "{**}":
			p.addf(path, "%q has an operator behind {**}, which has to be the last", v)
			return
		case !isTemplateLiteral(s):
			p.addf(path, "%q has the segment %q; {*} and {**} are segments by themselves, and others hold no wildcards or braces", v, s)
			return
		}
	}
	if strings.Contains(v, "//") {
		p.addf(path, "%q has an empty segment", v)
	}
}

// isTemplateLiteral tells whether a segment holds nothing but what Envoy takes in a
// template: unreserved and sub-delimiting characters, escapes, ":" and "@" (RFC 3986
// section 3.3), but no star.
func isTemplateLiteral(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~%!$&'()+,;:@=", c) >= 0) {
			return false
		}
	}
	return true
}

// isFieldName tells whether a name is a token in lower case (RFC 9110 section 5.6.2).
func isFieldName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return name != ""
}
