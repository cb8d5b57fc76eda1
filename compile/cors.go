package compile

import (
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/isthmus-mesh/isthmus/model"
)

func corsPolicy(c *networking.CorsPolicy) *model.CORSPolicy {
	if c == nil {
		return nil
	}
	out := &model.CORSPolicy{
		Methods:        strings.Join(c.AllowMethods, ","),
		Headers:        strings.Join(c.AllowHeaders, ","),
		Exposed:        strings.Join(c.ExposeHeaders, ","),
		MaxAge:         -1,
		KeepPreflights: c.UnmatchedPreflights == networking.CorsPolicy_IGNORE,
	}
	for _, o := range c.AllowOrigins {
		if m := stringMatch(o); m != nil {
			out.Origins = append(out.Origins, *m)
		}
	}
	if c.MaxAge != nil {
		out.MaxAge = c.MaxAge.AsDuration()
	}
	if c.AllowCredentials != nil {
		with := c.AllowCredentials.Value
		out.Credentials = &with
	}
	return out
}
