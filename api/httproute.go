package api

import (
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
	networking "istio.io/api/networking/v1alpha3"
	"k8s.io/apimachinery/pkg/util/validation"
)

// RedirectPrefix at the beginning of a redirect's uri asks that what follows takes
// the place of the matched prefix (HTTPRedirect.uri).
const RedirectPrefix = "%PREFIX()%"

func validateRedirect(p *problems, path string, r *networking.HTTPRedirect) {
	if r == nil {
		return
	}
	if r.Uri == "" && r.Authority == "" && r.Scheme == "" && r.RedirectPort == nil {
		p.addf(path, "leads to where the client is; set uri, authority, scheme or port")
	}
	uri := strings.TrimPrefix(r.Uri, RedirectPrefix)
	if strings.Contains(uri, "%") {
		p.addf(path+".uri", "%q: substitutions (%%) are not honoured yet, but for %s at its beginning", r.Uri, RedirectPrefix)
	}
	p.checkPathText(path+".uri", uri)
	p.checkAuthority(path+".authority", r.Authority)

	switch r.RedirectCode {
	case 0, 301, 302, 303, 307, 308:
	default:
		p.addf(path+".redirectCode", "%d is no redirection; set 301, 302, 303, 307 or 308", r.RedirectCode)
	}
	switch r.Scheme {
	case "", "http", "https":
	default:
		p.addf(path+".scheme", "%q is no scheme of HTTP; set http or https", r.Scheme)
	}
	if port, ok := r.RedirectPort.(*networking.HTTPRedirect_Port); ok {
		p.checkPort(path+".port", port.Port)
	}
}

func validateRewrite(p *problems, path string, r *networking.HTTPRoute) {
	w := r.Rewrite
	if w == nil {
		return
	}
	path += ".rewrite"
	if len(r.Route) == 0 && r.Delegate == nil {
		p.addf(path, "changes nothing without route; remove it")
	}
	if w.Uri == "" && w.Authority == "" && w.UriRegexRewrite == nil {
		p.addf(path, "is empty; set uri, uriRegexRewrite or authority, or remove it")
	}

	p.checkPathText(path+".uri", w.Uri)
	p.checkAuthority(path+".authority", w.Authority)
	if x := w.UriRegexRewrite; x != nil {
		p.checkPathText(path+".uriRegexRewrite.rewrite", x.Rewrite)
		if w.Uri != "" {
			p.addf(path, "has uri and uriRegexRewrite, of which only one can be; remove the other")
		}
		if re := p.checkRegex(path+".uriRegexRewrite.match", x.Match); re != nil {
			p.checkSubstitution(path+".uriRegexRewrite.rewrite", x.Rewrite, re.NumSubexp())
		}
	}
}

// checkSubstitution notes references to groups that the expression does not have
// (google.re2's Rewrite: \0 to \9, and \\ for the character itself).
func (p *problems) checkSubstitution(path, text string, groups int) {
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		i++
		switch {
		case i == len(text):
			p.addf(path, "%q ends with a lone \\; write \\\\ for the character", text)
		case text[i] == '\\':
		case text[i] < '0' || text[i] > '9':
			p.addf(path, "%q: after \\ stands a group (\\1) or another \\", text)
		case int(text[i]-'0') > groups:
			p.addf(path, "%q: there is no group \\%c; the expression has %s", text, text[i], strconv.Itoa(groups))
		}
	}
}

// validateHeaders looks at edits of header fields; host tells whether that of the
// request may be set here.
func validateHeaders(p *problems, path string, h *networking.Headers, host bool) {
	validateHeaderOperations(p, path+".request", h.GetRequest(), host)
	validateHeaderOperations(p, path+".response", h.GetResponse(), false)
}

// maxEdits bounds the fields that are set and added at one place: proxies take 1000 of
// a route and its destination together (Route.request_headers_to_add).
const maxEdits = 500

func validateHeaderOperations(p *problems, path string, o *networking.Headers_HeaderOperations, host bool) {
	if n := len(o.GetSet()) + len(o.GetAdd()); n > maxEdits {
		p.addf(path, "sets and adds %d fields; %d are possible", n, maxEdits)
	}
	hostSetBy := ""
	for _, name := range sortedMapKeys(o.GetSet()) {
		at := path + ".set[" + name + "]"
		if IsHostField(name) {
			if !host {
				p.addf(at, "cannot be set here; set rewrite.authority")
			}
			p.checkAuthority(at, o.Set[name])
			if hostSetBy != "" && o.Set[name] != o.Set[hostSetBy] {
				p.addf(at, "%s sets the host already, to another value; remove one of them", hostSetBy)
			}
			hostSetBy = name
			continue
		}
		p.checkEdit(at, name)
		p.checkFieldValue(at, o.Set[name])
	}
	for _, name := range sortedMapKeys(o.GetAdd()) {
		p.checkEdit(path+".add["+name+"]", name)
		p.checkFieldValue(path+".add["+name+"]", o.Add[name])
	}
	for i, name := range o.GetRemove() {
		p.checkEdit(indexed(path+".remove", i), name)
	}
}

// IsHostField tells whether a field carries the authority of a request.
func IsHostField(name string) bool {
	return name == ":authority" || strings.EqualFold(name, "host")
}

// checkEdit notes a field that cannot be edited.
func (p *problems) checkEdit(path, name string) {
	switch {
	case IsHostField(name):
		p.addf(path, "the host of a request can be set, not added to or removed")
	case strings.HasPrefix(name, ":"):
		p.addf(path, "%q is no header field that can be edited; use rewrite", name)
	case !httpguts.ValidHeaderFieldName(name):
		p.addf(path, "%q is no name of a header field", name)
	}
}

// checkFieldValue notes what cannot be the value of a header field.
func (p *problems) checkFieldValue(path, value string) {
	switch {
	case strings.Contains(value, "%"):
		p.addf(path, "%q: substitutions (%%) are not honoured yet; give a plain value", value)
	case !httpguts.ValidHeaderFieldValue(value):
		p.addf(path, "%q is no value of a header field", value)
	}
}

// checkPathText notes what cannot stand in the path of a request: a line end there
// would end the request's first line.
func (p *problems) checkPathText(path, text string) {
	if i := strings.IndexFunc(text, func(c rune) bool { return c <= ' ' || c == 0x7f }); i >= 0 {
		p.addf(path, "%q: a path has no spaces, line ends or control characters; write them as %%20 and the like", text)
	}
}

// checkAuthority notes what is no host, with a port or without; it may be empty.
func (p *problems) checkAuthority(path, host string) {
	if !httpguts.ValidHostHeader(host) || strings.ContainsAny(host, "/%") {
		p.addf(path, "%q is no host name, with a port or without", host)
	}
}

// checkSubsetName notes what cannot be the name of a subset; it may be empty.
func (p *problems) checkSubsetName(path, name string) {
	if name == "" {
		return
	}
	if problems := validation.IsDNS1123Label(strings.ToLower(name)); len(problems) > 0 {
		p.addf(path, "%q is no subset name: %s", name, problems[0])
	}
}
