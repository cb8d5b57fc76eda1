package api

import (
	"fmt"
	"strings"
	"testing"
)

// httpOf is a VirtualService whose one route is given.
func httpOf(route string) string {
	return `{hosts: [web], http: [` + route + `]}`
}

// to is where a route leads whose other fields are looked at.
const to = `route: [{destination: {host: web}}]`

// manyFields are so many header fields with values.
func manyFields(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "x-%d: v, ", i)
	}
	return strings.TrimSuffix(b.String(), ", ")
}

// TestTakesVirtualServices: one document for each field that is honoured.
func TestTakesVirtualServices(t *testing.T) {
	for name, spec := range map[string]string{
		"hosts":         `{hosts: [web, web.shop.svc.cluster.local, "*.example.com", API.Example.COM], http: [{` + to + `}]}`,
		"exportTo":      `{hosts: [web], exportTo: [".", other], http: [{` + to + `}]}`,
		"gateways":      `{hosts: [web], gateways: [mesh, shop/front, front.v1], http: [{` + to + `, match: [{gateways: [mesh]}, {gateways: [front]}]}]}`,
		"every host":    `{hosts: ["*"], gateways: [front], http: [{` + to + `}]}`,
		"uri":           httpOf(`{match: [{uri: {exact: /a}}, {uri: {prefix: /b}, ignoreUriCase: true}, {uri: {regex: "/c[0-9]+"}}], ` + to + `}`),
		"parts":         httpOf(`{match: [{scheme: {exact: http}, method: {regex: "GET|HEAD"}, authority: {prefix: web}}], ` + to + `}`),
		"headers":       httpOf(`{match: [{headers: {end-user: {exact: jason}, cookie: {}}, withoutHeaders: {not: {regex: ".*"}}}], ` + to + `}`),
		"query":         httpOf(`{match: [{queryParams: {a: {exact: b}, c: {}}}], ` + to + `}`),
		"where from":    httpOf(`{match: [{port: 80, sourceNamespace: shop, sourceLabels: {app: web, x/y: ""}, name: m, statPrefix: s}], name: r, ` + to + `}`),
		"split":         httpOf(`{route: [{destination: {host: web, subset: v1}, weight: 90}, {destination: {host: other.ns.svc.cluster.local, port: {number: 80}}, weight: 10}]}`),
		"many edits":    httpOf(`{headers: {request: {set: {` + manyFields(500) + `}}}, ` + to + `}`),
		"one, without":  httpOf(`{route: [{destination: {host: web}, weight: 0}]}`),
		"redirect":      httpOf(`{redirect: {uri: /x, authority: a.b, scheme: https, redirectCode: 308, port: 8443}}`),
		"prefix":        httpOf(`{match: [{uri: {prefix: /a}}], redirect: {uri: "%PREFIX()%/b", derivePort: FROM_REQUEST_PORT}}`),
		"direct":        httpOf(`{directResponse: {status: 503, body: {string: "gone"}}}`),
		"bytes":         httpOf(`{directResponse: {status: 200, body: {bytes: "aGk="}}}`),
		"rewrite":       httpOf(`{match: [{uri: {prefix: /a}}], rewrite: {uri: /, authority: b}, ` + to + `}`),
		"rewrite regex": httpOf(`{rewrite: {uriRegexRewrite: {match: "^/service/([^/]+)(/.*)$", rewrite: "\\2/instance/\\1"}}, ` + to + `}`),
		"time":          httpOf(`{timeout: 2s, ` + to + `}`),
		"retries":       httpOf(`{retries: {attempts: 3, perTryTimeout: 2s, retryOn: "gateway-error,503", retryRemoteLocalities: true, retryIgnorePreviousHosts: true, backoff: 10ms}, ` + to + `}`),
		"no retries":    httpOf(`{retries: {attempts: 0}, ` + to + `}`),
		"fault":         httpOf(`{fault: {delay: {fixedDelay: 5s, percentage: {value: 0.1}}, abort: {httpStatus: 503, percentage: {value: 100}}}, ` + to + `}`),
		"old percent":   httpOf(`{fault: {delay: {fixedDelay: 1h, percent: 100}}, ` + to + `}`),
		"gRPC abort":    httpOf(`{fault: {abort: {grpcStatus: UNAVAILABLE, percentage: {value: 0}}}, ` + to + `}`),
		"tls": `{hosts: [web, "*.example.com"], tls: [{match: [{sniHosts: [web.shop, a.example.com, "*.b.example.com"], port: 443, sourceNamespace: shop,
			destinationSubnets: [10.0.0.0/8, 10.1.2.3, "2001:db8::/32"]}], route: [{destination: {host: web, subset: v1}, weight: 1}, {destination: {host: web}, weight: 2}]}]}`,
		"tls of all names": `{hosts: ["*"], gateways: [front], tls: [{match: [{sniHosts: ["*"], gateways: [front]}], ` + to + `}]}`,
		"tcp":              `{hosts: [web], gateways: [mesh, front], tcp: [{match: [{port: 1, gateways: [mesh]}, {destinationSubnets: [10.0.0.1], gateways: [mesh]}], ` + to + `}, {` + to + `}]}`,
		"cors": httpOf(`{corsPolicy: {allowOrigins: [{exact: "*"}, {prefix: "https://a"}, {regex: ".*"}], allowMethods: [GET, "*"], allowHeaders: [x-a, "*"],
			exposeHeaders: [x-b], maxAge: 24h, allowCredentials: false, unmatchedPreflights: IGNORE}, ` + to + `}`),
		"delegate":          httpOf(`{match: [{uri: {prefix: /a}}], delegate: {name: a, namespace: other}, timeout: 1s, rewrite: {uri: /b}, mirror: {host: web}}`),
		"a delegate":        `{exportTo: [shop], http: [{match: [{gateways: [shop/front]}], ` + to + `}]}`,
		"mirror":            httpOf(`{mirror: {host: web, subset: v2, port: {number: 80}}, ` + to + `}`),
		"mirror a part":     httpOf(`{mirror: {host: web}, mirrorPercentage: {value: 0.5}, ` + to + `}`),
		"mirror, as of old": httpOf(`{mirror: {host: web}, mirrorPercent: 100, ` + to + `}`),
		"mirror, older":     httpOf(`{mirror: {host: web}, mirror_percent: 0, ` + to + `}`),
		"mirrors":           httpOf(`{mirrors: [{destination: {host: web}}, {destination: {host: other}, percentage: {value: 100}}], ` + to + `}`),
		"edits":             httpOf(`{headers: {request: {set: {x: "y", Host: a.b}, add: {z: "1"}, remove: [q]}, response: {remove: [server]}}, route: [{destination: {host: web}, headers: {response: {set: {v: one}}}}]}`),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := decodeYAML(t, document("VirtualService", spec)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRefusesVirtualServices: what is wrong or not honoured, with the path of the
// field.
func TestRefusesVirtualServices(t *testing.T) {
	for name, c := range map[string]struct{ spec, want string }{
		"no hosts": {
			`{gateways: [front], http: [{` + to + `}]}`,
			"spec.gateways: stands in an object without spec.hosts, which is a delegate",
		},
		"no hosts, of connections": {
			`{tcp: [{` + to + `}]}`,
			"spec.tcp: stands in an object without spec.hosts",
		},
		"two levels": {
			`{http: [{delegate: {name: a}}]}`,
			"spec.http[0].delegate: stands in an object without spec.hosts, which is a delegate: it cannot delegate further",
		},
		"a delegate without a name": {
			httpOf(`{delegate: {namespace: shop}}`),
			`spec.http[0].delegate.name: "" is no VirtualService`,
		},
		"a delegate in no namespace": {
			httpOf(`{delegate: {name: a, namespace: a.b}}`),
			`spec.http[0].delegate.namespace: "a.b" is no namespace`,
		},
		"a delegate beside a destination": {
			httpOf(`{delegate: {name: a}, ` + to + `}`),
			"spec.http[0]: has route and delegate, of which only one can be",
		},
		"every host": {
			`{hosts: ["*"], http: [{` + to + `}]}`,
			`spec.hosts[0]: "*" would take the requests to every host`,
		},
		"host twice": {
			`{hosts: [web, Web.], http: [{` + to + `}]}`,
			`spec.hosts[1]: "Web." is listed twice`,
		},
		"no host name": {
			`{hosts: [a_b], http: [{` + to + `}]}`,
			`spec.hosts[0]: "a_b" is no DNS name`,
		},
		"every host, of sidecars too": {
			`{hosts: ["*"], gateways: [front, mesh], http: [{` + to + `}]}`,
			`spec.hosts[0]: "*" would take the requests to every host`,
		},
		"no gateway": {
			`{hosts: [web], gateways: [mesh, a/b/c], http: [{` + to + `}]}`,
			`spec.gateways[1]: "a/b/c" is no Gateway; give NAME or NAMESPACE/NAME`,
		},
		"a gateway twice": {
			`{hosts: [web], gateways: [front, front], http: [{` + to + `}]}`,
			`spec.gateways[1]: "front" is listed twice`,
		},
		"a condition on a gateway that the object is not for": {
			httpOf(`{match: [{gateways: [front]}], ` + to + `}`),
			`spec.http[0].match[0].gateways[0]: "front" is not among spec.gateways (mesh)`,
		},
		"a condition on another gateway": {
			`{hosts: [web], gateways: [shop/front], http: [{match: [{gateways: [other/front]}], ` + to + `}]}`,
			`spec.http[0].match[0].gateways[0]: "other/front" is not among spec.gateways (shop/front)`,
		},
		"no routes": {
			`{hosts: [web]}`,
			"spec: has no route; give one under http, tls or tcp",
		},
		"tls without a match": {
			`{hosts: [web], tls: [{` + to + `}]}`,
			"spec.tls[0].match: is empty; say by sniHosts",
		},
		"tls without names": {
			`{hosts: [web], tls: [{match: [{port: 443}], ` + to + `}]}`,
			"spec.tls[0].match[0].sniHosts: is empty",
		},
		"tls by the name of another host": {
			`{hosts: [web, "*.example.com"], tls: [{match: [{sniHosts: [a.example.com, example.com]}], ` + to + `}]}`,
			`spec.tls[0].match[0].sniHosts[1]: "example.com" is none of spec.hosts (web, *.example.com)`,
		},
		"tls by a part of a label": {
			`{hosts: ["*.example.com"], tls: [{match: [{sniHosts: ["*-a.example.com"]}], ` + to + `}]}`,
			`spec.tls[0].match[0].sniHosts[0]: "*-a.example.com": in a server name`,
		},
		"tls to nowhere": {
			`{hosts: [web], tls: [{match: [{sniHosts: [web]}]}]}`,
			"spec.tls[0].route: is empty",
		},
		"tcp to nowhere": {
			`{hosts: [web], tcp: [{}]}`,
			"spec.tcp[0].route: is empty",
		},
		"tcp by weights of nothing": {
			`{hosts: [web], tcp: [{route: [{destination: {host: a}}, {destination: {host: b}}]}]}`,
			"spec.tcp[0].route: has no weight above 0",
		},
		"tcp by labels of clients": {
			`{hosts: [web], tcp: [{match: [{sourceLabels: {a: b}}], ` + to + `}]}`,
			"spec.tcp[0].match[0].sourceLabels: is not honoured yet",
		},
		"tcp to no subnet": {
			`{hosts: [web], tcp: [{match: [{destinationSubnets: [10.0.0.0/8, 10.0.0.0/33]}], ` + to + `}]}`,
			`spec.tcp[0].match[0].destinationSubnets[1]: "10.0.0.0/33" is neither an address nor a range`,
		},
		"tcp by addresses, at a gateway": {
			`{hosts: [web], gateways: [mesh, front], tcp: [{match: [{destinationSubnets: [10.0.0.1]}], ` + to + `}]}`,
			"spec.tcp[0].match[0].destinationSubnets: is honoured for sidecars alone",
		},
		"tcp of another gateway": {
			`{hosts: [web], tcp: [{match: [{gateways: [other]}], ` + to + `}]}`,
			`spec.tcp[0].match[0].gateways[0]: "other" is not among spec.gateways (mesh)`,
		},
		"tcp of no namespace": {
			`{hosts: [web], tcp: [{match: [{sourceNamespace: a.b, port: 70000}], ` + to + `}]}`,
			`spec.tcp[0].match[0].sourceNamespace: "a.b" is no namespace`,
		},
		"not honoured": {
			httpOf(`{corsPolicy: {allowOrigin: ["*"]}, ` + to + `}`),
			"spec.http[0].corsPolicy.allowOrigin: is not honoured yet",
		},
		"a fault of nothing": {
			httpOf(`{fault: {}, ` + to + `}`),
			"spec.http[0].fault: is empty",
		},
		"a fault beside an answer": {
			httpOf(`{fault: {abort: {httpStatus: 500, percentage: {value: 1}}}, directResponse: {status: 200}}`),
			"spec.http[0].fault: stands beside an answer that the proxy gives itself",
		},
		"a delay for nobody": {
			httpOf(`{fault: {delay: {fixedDelay: 5s}}, ` + to + `}`),
			"spec.http[0].fault.delay.percentage: is missing",
		},
		"a delay of nothing": {
			httpOf(`{fault: {delay: {percentage: {value: 1}}}, ` + to + `}`),
			"spec.http[0].fault.delay.fixedDelay: is missing",
		},
		"a short delay": {
			httpOf(`{fault: {delay: {fixedDelay: 1us, percentage: {value: 1}}}, ` + to + `}`),
			"spec.http[0].fault.delay.fixedDelay: 1µs is too short",
		},
		"a long delay": {
			httpOf(`{fault: {delay: {fixedDelay: 61m, percentage: {value: 1}}}, ` + to + `}`),
			"spec.http[0].fault.delay.fixedDelay: 1h1m0s is too long; set 1h0m0s or less",
		},
		"a delay that grows": {
			httpOf(`{fault: {delay: {exponentialDelay: 5s, percentage: {value: 1}}}, ` + to + `}`),
			"spec.http[0].fault.delay.exponentialDelay: is not honoured yet",
		},
		"two percentages": {
			httpOf(`{fault: {delay: {fixedDelay: 5s, percent: 5, percentage: {value: 1}}}, ` + to + `}`),
			"spec.http[0].fault.delay.percent: stands beside percentage",
		},
		"no percent": {
			httpOf(`{fault: {delay: {fixedDelay: 5s, percent: 101}}, ` + to + `}`),
			"spec.http[0].fault.delay.percent: 101 is no percentage",
		},
		"no percentage": {
			httpOf(`{fault: {abort: {httpStatus: 500, percentage: {value: 100.1}}}, ` + to + `}`),
			"spec.http[0].fault.abort.percentage.value: 100.1 is no percentage",
		},
		"an abort for nobody": {
			httpOf(`{fault: {abort: {httpStatus: 500}}, ` + to + `}`),
			"spec.http[0].fault.abort.percentage: is missing",
		},
		"an abort without a status": {
			httpOf(`{fault: {abort: {percentage: {value: 1}}}, ` + to + `}`),
			"spec.http[0].fault.abort: says no status",
		},
		"an abort with no status": {
			httpOf(`{fault: {abort: {httpStatus: 99, percentage: {value: 1}}}, ` + to + `}`),
			"spec.http[0].fault.abort.httpStatus: 99 is no status",
		},
		"no status of gRPC": {
			httpOf(`{fault: {abort: {grpcStatus: GONE, percentage: {value: 1}}}, ` + to + `}`),
			`spec.http[0].fault.abort.grpcStatus: "GONE" is no status of gRPC`,
		},
		"no origins": {
			httpOf(`{corsPolicy: {allowMethods: [GET]}, ` + to + `}`),
			"spec.http[0].corsPolicy.allowOrigins: is empty",
		},
		"an origin of nothing": {
			httpOf(`{corsPolicy: {allowOrigins: [{}]}, ` + to + `}`),
			"spec.http[0].corsPolicy.allowOrigins[0]: says nothing",
		},
		"an empty origin": {
			httpOf(`{corsPolicy: {allowOrigins: [{exact: ""}]}, ` + to + `}`),
			"spec.http[0].corsPolicy.allowOrigins[0].exact: is empty",
		},
		"origins as they were": {
			httpOf(`{corsPolicy: {allowOrigin: ["*"]}, ` + to + `}`),
			"spec.http[0].corsPolicy.allowOrigin: is not honoured yet",
		},
		"no method": {
			httpOf(`{corsPolicy: {allowOrigins: [{exact: "*"}], allowMethods: ["GET, POST"]}, ` + to + `}`),
			`spec.http[0].corsPolicy.allowMethods[0]: "GET, POST" is no method`,
		},
		"no field to expose": {
			httpOf(`{corsPolicy: {allowOrigins: [{exact: "*"}], exposeHeaders: ["x-*"]}, ` + to + `}`),
			`spec.http[0].corsPolicy.exposeHeaders[0]: "x-*" is no header field`,
		},
		"a part of a second": {
			httpOf(`{corsPolicy: {allowOrigins: [{exact: "*"}], maxAge: 1500ms}, ` + to + `}`),
			"spec.http[0].corsPolicy.maxAge: 1.5s is told in whole seconds",
		},
		"a mirror without a host": {
			httpOf(`{mirror: {subset: v1}, ` + to + `}`),
			"spec.http[0].mirror.host: ",
		},
		"a mirror of nothing": {
			httpOf(`{mirrors: [{percentage: {value: 1}}], ` + to + `}`),
			"spec.http[0].mirrors[0].destination: is missing",
		},
		"mirror and mirrors": {
			httpOf(`{mirror: {host: a}, mirrors: [{destination: {host: b}}], ` + to + `}`),
			"spec.http[0].mirror: stands beside mirrors",
		},
		"too many mirrors": {
			httpOf(`{mirrors: [` + strings.Repeat("{destination: {host: a}}, ", 17) + `], ` + to + `}`),
			"spec.http[0].mirrors: lists 17; 16 are possible",
		},
		"more than all are mirrored": {
			httpOf(`{mirror: {host: a}, mirrorPercentage: {value: 100.5}, ` + to + `}`),
			"spec.http[0].mirrorPercentage.value: ",
		},
		"more than all are mirrored, as of old": {
			httpOf(`{mirror: {host: a}, mirrorPercent: 101, ` + to + `}`),
			"spec.http[0].mirrorPercent: 101 is no percentage",
		},
		"more than all are mirrored to one of several": {
			httpOf(`{mirrors: [{destination: {host: a}, percentage: {value: -1}}], ` + to + `}`),
			"spec.http[0].mirrors[0].percentage.value: ",
		},
		"two percentages of a mirror": {
			httpOf(`{mirror: {host: a}, mirrorPercent: 1, mirrorPercentage: {value: 2}, ` + to + `}`),
			"spec.http[0].mirrorPercent: stands beside mirrorPercentage, which counts",
		},
		"a percentage without a mirror": {
			httpOf(`{mirrorPercentage: {value: 1}, ` + to + `}`),
			"spec.http[0].mirrorPercentage: is about mirror, which is not there",
		},
		"a mirror of answers of the proxy": {
			httpOf(`{mirror: {host: web}, directResponse: {status: 200}}`),
			"spec.http[0].mirror: has no effect on an answer that the proxy gives itself",
		},
		"a policy beside an answer": {
			httpOf(`{corsPolicy: {allowOrigins: [{exact: "*"}]}, redirect: {uri: /x}}`),
			"spec.http[0].corsPolicy: has no effect on an answer that the proxy gives itself",
		},
		"nowhere": {
			httpOf(`{timeout: 1s}`),
			"spec.http[0]: leads nowhere",
		},
		"two ways": {
			httpOf(`{redirect: {uri: /}, ` + to + `}`),
			"spec.http[0]: has route and redirect, of which only one can be",
		},
		"empty condition on the path": {
			httpOf(`{match: [{uri: {}}], ` + to + `}`),
			"spec.http[0].match[0].uri: says nothing",
		},
		"empty path": {
			httpOf(`{match: [{uri: {exact: ""}}], ` + to + `}`),
			"spec.http[0].match[0].uri.exact: is empty",
		},
		"empty prefix": {
			httpOf(`{match: [{headers: {x: {prefix: ""}}}], ` + to + `}`),
			"spec.http[0].match[0].headers[x].prefix: is empty",
		},
		"no expression": {
			httpOf(`{match: [{uri: {regex: "("}}], ` + to + `}`),
			`spec.http[0].match[0].uri.regex: "(" is no regular expression of RE2: missing closing )`,
		},
		"backtracking": {
			httpOf(`{match: [{uri: {regex: "(?=a)"}}], ` + to + `}`),
			"is no regular expression of RE2",
		},
		"expression that explodes": {
			httpOf(`{match: [{uri: {regex: "((a{100}){100}){100}"}}], ` + to + `}`),
			"is no regular expression of RE2",
		},
		"long expression": {
			httpOf(`{match: [{uri: {regex: "` + strings.Repeat("a", 1025) + `"}}], ` + to + `}`),
			"has 1025 bytes",
		},
		"no header field": {
			httpOf(`{match: [{headers: {":path": {exact: /}}}], ` + to + `}`),
			`spec.http[0].match[0].headers[:path]: ":path" is no header field`,
		},
		"no port": {
			httpOf(`{match: [{port: 70000}], ` + to + `}`),
			"spec.http[0].match[0].port: 70000 is no port",
		},
		"labels of clients": {
			httpOf(`{match: [{sourceLabels: {a: "b|c"}}], ` + to + `}`),
			`spec.http[0].match[0].sourceLabels[a]: "b|c" is no label value`,
		},
		"no destination": {
			httpOf(`{route: [{weight: 1}]}`),
			"spec.http[0].route[0].destination: is missing",
		},
		"destination without a host": {
			httpOf(`{route: [{destination: {subset: v1}}]}`),
			"spec.http[0].route[0].destination.host: is empty",
		},
		"weight below zero": {
			httpOf(`{route: [{destination: {host: web}, weight: -1}]}`),
			"spec.http[0].route[0].weight: -1 is no weight",
		},
		"weights of nothing": {
			httpOf(`{route: [{destination: {host: web}}, {destination: {host: other}}]}`),
			"spec.http[0].route: has no weight above 0",
		},
		"weights that no proxy takes": {
			httpOf(`{route: [{destination: {host: a}, weight: 2147483647}, {destination: {host: b}, weight: 2147483647}, {destination: {host: c}, weight: 2147483647}]}`),
			"spec.http[0].route: has weights of 6442450941 together",
		},
		"more edits than a proxy takes": {
			httpOf(`{headers: {request: {set: {` + manyFields(501) + `}}}, ` + to + `}`),
			"spec.http[0].headers.request: sets and adds 501 fields; 500 are possible",
		},
		"redirect to nowhere": {
			httpOf(`{redirect: {redirectCode: 302}}`),
			"spec.http[0].redirect: leads to where the client is",
		},
		"redirect to two lines": {
			httpOf(`{redirect: {uri: "/a\nb"}}`),
			`spec.http[0].redirect.uri: "/a\nb": a path has no spaces, line ends`,
		},
		"redirect to no host": {
			httpOf(`{redirect: {authority: "a\nb"}}`),
			`spec.http[0].redirect.authority: "a\nb" is no host name`,
		},
		"rewrite to two lines": {
			httpOf(`{rewrite: {uri: "/a\nb"}, ` + to + `}`),
			`spec.http[0].rewrite.uri: "/a\nb": a path has no spaces`,
		},
		"substitution of two lines": {
			httpOf(`{rewrite: {uriRegexRewrite: {match: a, rewrite: "b\nc"}}, ` + to + `}`),
			`spec.http[0].rewrite.uriRegexRewrite.rewrite: "b\nc": a path has no spaces`,
		},
		"host of two lines": {
			httpOf(`{headers: {request: {set: {Host: "a\nb"}}}, ` + to + `}`),
			`spec.http[0].headers.request.set[Host]: "a\nb" is no host name`,
		},
		"two hosts": {
			httpOf(`{headers: {request: {set: {Host: a.example, host: b.example}}}, ` + to + `}`),
			"spec.http[0].headers.request.set[host]: Host sets the host already, to another value",
		},
		"redirect with another code": {
			httpOf(`{redirect: {uri: /, redirectCode: 304}}`),
			"spec.http[0].redirect.redirectCode: 304 is no redirection",
		},
		"redirect to another scheme": {
			httpOf(`{redirect: {scheme: ftp}}`),
			`spec.http[0].redirect.scheme: "ftp" is no scheme of HTTP`,
		},
		"direct response without a status": {
			httpOf(`{directResponse: {body: {string: x}}}`),
			"spec.http[0].directResponse.status: 0 is no status",
		},
		"empty rewrite": {
			httpOf(`{rewrite: {}, ` + to + `}`),
			"spec.http[0].rewrite: is empty",
		},
		"rewrite twice": {
			httpOf(`{rewrite: {uri: /, uriRegexRewrite: {match: a, rewrite: b}}, ` + to + `}`),
			"spec.http[0].rewrite: has uri and uriRegexRewrite",
		},
		"rewrite of a redirect": {
			httpOf(`{rewrite: {uri: /}, redirect: {uri: /}}`),
			"spec.http[0].rewrite: changes nothing without route",
		},
		"group that is not there": {
			httpOf(`{rewrite: {uriRegexRewrite: {match: "(a)", rewrite: "\\2"}}, ` + to + `}`),
			`spec.http[0].rewrite.uriRegexRewrite.rewrite: "\\2": there is no group \2`,
		},
		"no time": {
			httpOf(`{timeout: 0s, ` + to + `}`),
			"spec.http[0].timeout: 0s is too short",
		},
		"retries without attempts": {
			httpOf(`{retries: {perTryTimeout: 1s}, ` + to + `}`),
			"spec.http[0].retries.attempts: is 0 or missing",
		},
		"retry on what is no condition": {
			httpOf(`{retries: {attempts: 1, retryOn: sometimes}, ` + to + `}`),
			`spec.http[0].retries.retryOn: "sometimes" is no condition`,
		},
		"host of one of several": {
			httpOf(`{route: [{destination: {host: web}, weight: 1, headers: {request: {set: {host: x}}}}, {destination: {host: b}, weight: 1}]}`),
			"spec.http[0].route[0].headers.request.set[host]: cannot be set here; set rewrite.authority",
		},
		"substitution": {
			httpOf(`{headers: {request: {set: {x: "%REQ(y)%"}}}, ` + to + `}`),
			"spec.http[0].headers.request.set[x]",
		},
		"line in a value": {
			httpOf(`{headers: {response: {add: {x: "a\nb"}}}, ` + to + `}`),
			`spec.http[0].headers.response.add[x]: "a\nb" is no value of a header field`,
		},
		"part of the request among the fields": {
			httpOf(`{headers: {request: {set: {":path": /}}}, ` + to + `}`),
			`spec.http[0].headers.request.set[:path]: ":path" is no header field that can be edited`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decodeYAML(t, document("VirtualService", c.spec))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}
