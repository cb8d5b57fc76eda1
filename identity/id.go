package identity

import (
	"fmt"
	"net/url"
	"strings"
)

// DefaultTrustDomain is the trust domain of a mesh that names none.
const DefaultTrustDomain = "cluster.local"

// ID is the identity of a workload: the service account that it runs as, in
// the trust domain of its mesh. It is a value and can be a map key. The zero ID
// is nobody.
type ID struct {
	TrustDomain    string
	Namespace      string
	ServiceAccount string
}

// Parse reads a SPIFFE ID of the form
// spiffe://TRUSTDOMAIN/ns/NAMESPACE/sa/ACCOUNT and nothing else: no port, user,
// query, fragment, escapes, empty or extra segments. See the SPIFFE-ID
// specification, section 2.
func Parse(s string) (ID, error) {
	rest, ok := strings.CutPrefix(s, "spiffe://")
	if !ok {
		return ID{}, fmt.Errorf("identity %q: does not start with spiffe://", s)
	}

	seg := strings.Split(rest, "/")
	if len(seg) != 5 || seg[1] != "ns" || seg[3] != "sa" {
		return ID{}, fmt.Errorf("identity %q: want spiffe://TRUSTDOMAIN/ns/NAMESPACE/sa/ACCOUNT", s)
	}

	id := ID{TrustDomain: seg[0], Namespace: seg[2], ServiceAccount: seg[4]}
	if err := id.Validate(); err != nil {
		return ID{}, fmt.Errorf("identity %q: %w", s, err)
	}
	return id, nil
}

// Validate tells whether every part of the ID may stand in a SPIFFE ID.
func (id ID) Validate() error {
	if err := checkPart("trust domain", id.TrustDomain, ".-_"); err != nil {
		return err
	}
	if len(id.TrustDomain) > 255 {
		return fmt.Errorf("trust domain is longer than 255 bytes")
	}
	if err := checkPart("namespace", id.Namespace, "-"); err != nil {
		return err
	}
	return checkPart("service account", id.ServiceAccount, ".-")
}

// checkPart allows lower-case letters, digits and the bytes of punctuation:
// what Kubernetes names and SPIFFE trust domains are made of.
func checkPart(what, s, punctuation string) error {
	if s == "" {
		return fmt.Errorf("%s is empty", what)
	}
	if len(s) > 253 && what != "trust domain" {
		return fmt.Errorf("%s is longer than 253 bytes", what)
	}
	if s == "." || s == ".." {
		return fmt.Errorf("%s is %q", what, s)
	}

	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.IndexByte(punctuation, c) >= 0 {
			continue
		}
		return fmt.Errorf("%s %q holds the character %q", what, s, c)
	}
	return nil
}

// IsZero tells whether the ID is nobody's.
func (id ID) IsZero() bool { return id == ID{} }

// String writes the SPIFFE ID. It is what Parse reads.
func (id ID) String() string {
	return "spiffe://" + id.TrustDomain + "/ns/" + id.Namespace + "/sa/" + id.ServiceAccount
}

// URI is the ID as a certificate carries it in its subject alternative name.
func (id ID) URI() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: id.TrustDomain, Path: "/ns/" + id.Namespace + "/sa/" + id.ServiceAccount}
}
