package dns

import (
	"context"
	"net/netip"
	"strings"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/isthmus-mesh/isthmus/version"
)

// pluginName is the directive in a Corefile.
const pluginName = "isthmus"

// ProbeLabel is a name that exists in every zone of this server and nowhere
// else: a TXT query for it tells whether questions for the zone arrive here.
const ProbeLabel = "_isthmus"

// Resolver is the CoreDNS plugin. Within its zones it has the last word: what
// no ServiceEntry names does not exist. Outside of them it answers address
// queries for the hosts that it knows and hands everything else on.
type Resolver struct {
	Next  plugin.Handler
	Names *Names
	// Zones are in normal form: lower case, with a final dot.
	Zones plugin.Zones
	// TTL of answers, and of the knowledge that a name does not exist, in
	// seconds.
	TTL uint32
}

// Name implements plugin.Handler.
func (r *Resolver) Name() string { return pluginName }

// Ready implements the ready plugin's interface: the first table is there.
func (r *Resolver) Ready() bool { return r.Names.Table() != nil }

// ServeDNS implements plugin.Handler.
func (r *Resolver) ServeDNS(ctx context.Context, w dns.ResponseWriter, req *dns.Msg) (int, error) {
	state := request.Request{W: w, Req: req}
	qname := state.Name() // lower case
	zone := r.Zones.Matches(qname)
	table := r.Names.Table()
	if table == nil {
		if zone != "" {
			// To deny a name that is not known yet would be remembered.
			return dns.RcodeServerFailure, nil
		}
		return r.pass(ctx, w, req)
	}

	addrs, host, exists := table.Lookup(strings.TrimSuffix(qname, "."))
	// Outside of the zones the server is only ahead of another: a name that it
	// has no address for may still have one there.
	if zone == "" {
		if !host || len(addrs) == 0 || !ours(state.QType()) {
			return r.pass(ctx, w, req)
		}
		return r.reply(state, qname, r.addresses(state, addrs), dns.RcodeSuccess)
	}

	if records, ok := r.special(state, zone); ok {
		return r.reply(state, zone, records, dns.RcodeSuccess)
	}
	// A name that has names below it exists: to deny it would deny them (RFC
	// 8020).
	if !host && !exists && qname != zone {
		return r.reply(state, zone, nil, dns.RcodeNameError)
	}
	return r.reply(state, zone, r.addresses(state, addrs), dns.RcodeSuccess)
}

// ours are the types that are answered for a host outside of the zones. The
// service binding types are among them, because their hints would lead around
// the address that the mesh catches.
func ours(qtype uint16) bool {
	switch qtype {
	case dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeSVCB, dns.TypeANY:
		return true
	}
	return false
}

func (r *Resolver) pass(ctx context.Context, w dns.ResponseWriter, req *dns.Msg) (int, error) {
	if r.Next == nil {
		return dns.RcodeRefused, nil
	}
	return plugin.NextOrFailure(r.Name(), r.Next, ctx, w, req)
}

// special answers for the names that the zone has without a ServiceEntry: its
// SOA and NS, and the probe.
func (r *Resolver) special(state request.Request, zone string) ([]dns.RR, bool) {
	hdr := func(rtype uint16) dns.RR_Header {
		return dns.RR_Header{Name: state.QName(), Rrtype: rtype, Class: dns.ClassINET, Ttl: r.TTL}
	}
	switch state.Name() {
	case zone:
		switch state.QType() {
		case dns.TypeSOA:
			return []dns.RR{r.soa(zone)}, true
		case dns.TypeNS:
			return []dns.RR{&dns.NS{Hdr: hdr(dns.TypeNS), Ns: nameserver(zone)}}, true
		}
	case ProbeLabel + "." + zone:
		if state.QType() != dns.TypeTXT {
			return nil, true
		}
		return []dns.RR{&dns.TXT{Hdr: hdr(dns.TypeTXT), Txt: []string{"isthmus " + version.Version}}}, true
	}

	return nil, false
}

// addresses are the records of the type asked for, under the name as the
// client spelt it.
func (r *Resolver) addresses(state request.Request, addrs []netip.Addr) []dns.RR {
	var out []dns.RR
	qtype := state.QType()
	for _, a := range addrs {
		a = a.Unmap()
		hdr := dns.RR_Header{Name: state.QName(), Class: dns.ClassINET, Ttl: r.TTL}
		switch {
		case a.Is4() && (qtype == dns.TypeA || qtype == dns.TypeANY):
			hdr.Rrtype = dns.TypeA
			out = append(out, &dns.A{Hdr: hdr, A: a.AsSlice()})
		case a.Is6() && (qtype == dns.TypeAAAA || qtype == dns.TypeANY):
			hdr.Rrtype = dns.TypeAAAA
			out = append(out, &dns.AAAA{Hdr: hdr, AAAA: a.AsSlice()})
		}
	}

	return out
}

// reply writes an authoritative answer. One without records carries the SOA of
// the apex, from which resolvers learn how long to remember it (RFC 2308).
func (r *Resolver) reply(state request.Request, apex string, records []dns.RR, rcode int) (int, error) {
	m := new(dns.Msg)
	m.SetRcode(state.Req, rcode)
	m.Authoritative = true
	m.Answer = records
	if len(records) == 0 {
		m.Ns = []dns.RR{r.soa(apex)}
	}

	// What does not fit into the client's datagram is cut, and marked so.
	state.SizeAndDo(m)
	m = state.Scrub(m)
	if err := state.W.WriteMsg(m); err != nil {
		return dns.RcodeServerFailure, err
	}
	return dns.RcodeSuccess, nil
}

func nameserver(apex string) string { return "ns.dns." + apex }

func (r *Resolver) soa(apex string) dns.RR {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: apex, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: r.TTL},
		Ns:  nameserver(apex), Mbox: "hostmaster." + apex,
		// Nobody transfers the zone: a constant serial will do.
		Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: r.TTL,
	}
}
