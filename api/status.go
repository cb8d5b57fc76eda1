package api

import (
	"encoding/json"
	"net/netip"
)

// ConditionReconciled is the condition (IstioCondition.type) that tells whether
// an object is in force.
const ConditionReconciled = "Reconciled"

// Status is what a control plane noted on an object.
type Status struct {
	// Addresses are those that the hosts of a ServiceEntry were given
	// (ServiceEntryStatus.addresses), by host. They keep an address with its
	// host over restarts.
	Addresses map[string]netip.Addr
	// Refused tells that this generation of the object was found to take
	// what belongs to another, and is not in force.
	Refused bool
}

// decodeStatus reads a status leniently: whatever it does not understand is
// somebody else's.
func decodeStatus(raw []byte, generation int64) Status {
	var wire struct {
		Addresses []struct {
			Value string `json:"value"`
			Host  string `json:"host"`
		} `json:"addresses"`
		Conditions []struct {
			Type               string          `json:"type"`
			Status             string          `json:"status"`
			ObservedGeneration json.RawMessage `json:"observedGeneration"`
		} `json:"conditions"`
	}
	if len(raw) == 0 || json.Unmarshal(raw, &wire) != nil {
		return Status{}
	}
	var s Status
	for _, a := range wire.Addresses {
		addr, err := netip.ParseAddr(a.Value)
		if err != nil || a.Host == "" {
			continue
		}
		if s.Addresses == nil {
			s.Addresses = map[string]netip.Addr{}
		}
		s.Addresses[PlainHost(a.Host)] = addr
	}
	for _, c := range wire.Conditions {
		if c.Type != ConditionReconciled || c.Status != "False" {
			continue
		}
		// The CRD takes the generation as a number or as a string.
		var observed json.Number
		if json.Unmarshal(trimQuotes(c.ObservedGeneration), &observed) == nil {
			n, err := observed.Int64()
			s.Refused = err == nil && n == generation
		}
	}
	return s
}

func trimQuotes(raw []byte) []byte {
	if n := len(raw); n > 1 && raw[0] == '"' && raw[n-1] == '"' {
		return raw[1 : n-1]
	}
	return raw
}
