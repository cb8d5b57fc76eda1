package identity

import "fmt"

// TokenAudience is whom the service account token of a proxy is made for.
const TokenAudience = "istio-ca"

// JWT policies say which service account tokens prove a proxy, by the names of
// values.global.jwtPolicy.
const (
	// JWTThirdParty takes tokens made for TokenAudience alone.
	JWTThirdParty = "third-party-jwt"
	// JWTFirstParty also takes the API server's own tokens, as clusters
	// without projected volumes have them.
	JWTFirstParty = "first-party-jwt"
)

// CheckJWTPolicy refuses what is no JWT policy.
func CheckJWTPolicy(policy string) error {
	switch policy {
	case JWTThirdParty, JWTFirstParty:
		return nil
	}
	return fmt.Errorf("JWT policy %q is neither %s nor %s", policy, JWTThirdParty, JWTFirstParty)
}
