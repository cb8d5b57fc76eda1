package model

import "strings"

// Locality is region/zone/subzone, with trailing empty parts cut off; the empty
// Locality is unknown.
type Locality string

// MakeLocality joins the parts of a locality.
func MakeLocality(region, zone, subzone string) Locality {
	if region == "" {
		return ""
	}
	return Locality(strings.TrimRight(region+"/"+zone+"/"+subzone, "/"))
}

// ParseLocality reads region/zone/subzone as people write it.
func ParseLocality(text string) Locality {
	return MakeLocality(Locality(text).Parts())
}

// Parts gives region, zone and subzone; unknown ones are empty.
func (l Locality) Parts() (region, zone, subzone string) {
	region, rest, _ := strings.Cut(string(l), "/")
	zone, subzone, _ = strings.Cut(rest, "/")
	return region, zone, subzone
}

// LocalitySetting says which endpoints a client prefers by where they stand
// (Istio, LocalityLoadBalancerSetting). The zero LocalitySetting is what holds
// where nobody says anything: near endpoints come before far ones. Distribute
// stands alone.
type LocalitySetting struct {
	// Off makes all endpoints count alike, wherever they are.
	Off bool
	// Distribute shares the calls of clients of a place between places.
	Distribute []Distribute
	// Failover gives for a client's region the one that comes before all other
	// regions when its own fails.
	Failover map[string]string
	// Priority compares endpoints with the client, the first label first: an
	// endpoint that differs in an earlier one is farther away. It takes the
	// place of localities, unless there is a Failover as well.
	Priority []PriorityLabel
}

// Distribute is where the calls of the clients of one place go.
type Distribute struct {
	From LocalityPattern
	// To are sorted by their patterns, no two of which match one locality; the
	// percentages come to 100.
	To []LocalityShare
}

// LocalityShare is the percentage of calls that goes to endpoints of a place.
type LocalityShare struct {
	To      LocalityPattern
	Percent uint32
}

// PriorityLabel is a label in which an endpoint is compared: with the client, or
// with a value.
type PriorityLabel struct {
	Key string
	// Fixed tells that Value is what endpoints are compared with.
	Fixed bool
	Value string
}

// LocalityPattern is region/zone/subzone; "*" and what is left out stand for
// anything.
type LocalityPattern string

// Matches tells whether a locality is one of the pattern's.
func (p LocalityPattern) Matches(l Locality) bool {
	region, zone, subzone := Locality(p).Parts()
	atRegion, atZone, atSubzone := l.Parts()
	return (region == "*" || region == atRegion) &&
		(zone == "*" || zone == "" || zone == atZone) &&
		(subzone == "*" || subzone == "" || subzone == atSubzone)
}

// Shares are where the calls of clients of a locality go; nil when nothing was
// said of them.
func (s *LocalitySetting) Shares(from Locality) []LocalityShare {
	if s == nil {
		return nil
	}
	for i := range s.Distribute {
		if s.Distribute[i].From.Matches(from) {
			return s.Distribute[i].To
		}
	}
	return nil
}
