package api

import (
	"regexp"
	"regexp/syntax"

	"golang.org/x/net/http/httpguts"
	networking "istio.io/api/networking/v1alpha3"
	"k8s.io/apimachinery/pkg/util/validation"
)

var httpMatchFields = fieldSet{
	"name": nil, "uri": nil, "scheme": nil, "method": nil, "authority": nil, "headers": nil, "withoutHeaders": nil,
	"queryParams": nil, "ignoreUriCase": nil, "port": nil, "sourceNamespace": nil, "sourceLabels": nil, "gateways": nil, "statPrefix": nil,
}

// maxRegex bounds a regular expression, as Istio does: each is compiled in every
// proxy.
const maxRegex = 1024

// text is a StringMatch where it stands.
type text struct {
	path  string
	match *networking.StringMatch
}

func validateHTTPMatch(p *problems, path string, m *networking.HTTPMatchRequest) {
	for _, t := range []text{{path + ".uri", m.Uri}, {path + ".scheme", m.Scheme}, {path + ".method", m.Method}, {path + ".authority", m.Authority}} {
		if t.match != nil && t.match.MatchType == nil {
			p.addf(t.path, "says nothing; give exact, prefix or regex")
			continue
		}
		if _, exact := t.match.GetMatchType().(*networking.StringMatch_Exact); exact && t.match.GetExact() == "" {
			p.addf(t.path+".exact", "is empty, which no request is")
		}
		p.checkText(t.path, t.match)
	}
	if m.IgnoreUriCase && m.Uri.GetRegex() != "" {
		p.addf(path+".ignoreUriCase", "has no effect on a regular expression; begin it with (?i)")
	}

	for _, name := range sortedMapKeys(m.Headers) {
		p.checkFieldMatch(path+".headers["+name+"]", name, m.Headers[name])
	}
	for _, name := range sortedMapKeys(m.WithoutHeaders) {
		p.checkFieldMatch(path+".withoutHeaders["+name+"]", name, m.WithoutHeaders[name])
	}
	for _, name := range sortedMapKeys(m.QueryParams) {
		at := path + ".queryParams[" + name + "]"
		if name == "" {
			p.addf(at, "has no name")
		}
		p.checkText(at, m.QueryParams[name])
	}

	if m.Port != 0 {
		p.checkPort(path+".port", m.Port)
	}
	if ns := m.SourceNamespace; ns != "" && len(validation.IsDNS1123Label(ns)) > 0 {
		p.addf(path+".sourceNamespace", "%q is no namespace", ns)
	}
	p.checkLabels(path+".sourceLabels", m.SourceLabels)
}

// checkFieldMatch notes what is wrong with a condition on a header field.
func (p *problems) checkFieldMatch(path, name string, m *networking.StringMatch) {
	if !httpguts.ValidHeaderFieldName(name) {
		p.addf(path, "%q is no header field; match the path, method or authority by uri, method and authority", name)
	}
	p.checkText(path, m)
}

// checkText notes what is wrong with a condition on a text; one that says nothing
// asks that the text is there.
func (p *problems) checkText(path string, m *networking.StringMatch) {
	switch m.GetMatchType().(type) {
	case *networking.StringMatch_Prefix:
		if m.GetPrefix() == "" {
			p.addf(path+".prefix", "is empty and would match everything; remove the condition")
		}
	case *networking.StringMatch_Regex:
		p.checkRegex(path+".regex", m.GetRegex())
	}
}

// checkRegex notes what is no regular expression, and returns it compiled.
func (p *problems) checkRegex(path, expression string) *regexp.Regexp {
	switch {
	case expression == "":
		p.addf(path, "is empty; give a regular expression")
		return nil
	case len(expression) > maxRegex:
		p.addf(path, "has %d bytes; a regular expression may have %d", len(expression), maxRegex)
		return nil
	}
	re, err := regexp.Compile(expression)
	if err != nil {
		why := err.Error()
		if e, ok := err.(*syntax.Error); ok {
			why = e.Code.String() + ": " + e.Expr
		}
		p.addf(path, "%q is no regular expression of RE2: %s", expression, why)
		return nil
	}
	return re
}
