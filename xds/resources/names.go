package resources

import (
	"strconv"
	"strings"
)

// clusterName is the name of an outbound cluster.
func clusterName(port uint16, subset, hostName string) string {
	return "outbound|" + utoa(port) + "|" + subset + "|" + hostName
}

// sniName is the name that travels as TLS server name towards a cluster.
func sniName(port uint16, subset, hostName string) string {
	return "outbound_." + utoa(port) + "_." + subset + "_." + hostName
}

// endpointsName is the name of a load assignment, taken apart.
type endpointsName struct {
	port         uint16
	subset, host string
	// sni tells that the name is one of sniName: the endpoints are those to which
	// a gateway passes TLS on.
	sni bool
}

// parseEndpointsName undoes clusterName and sniName.
func parseEndpointsName(name string) (n endpointsName, ok bool) {
	rest, isCluster := strings.CutPrefix(name, "outbound|")
	separator := "|"
	if !isCluster {
		rest, n.sni = strings.CutPrefix(name, "outbound_.")
		separator = "_."
	}
	parts := strings.Split(rest, separator)
	if len(parts) != 3 || !isCluster && !n.sni {
		return n, false
	}
	n.port, ok = atou(parts[0])
	n.subset, n.host = parts[1], parts[2]
	return n, ok
}

// cutLast splits HOST:PORT.
func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}

func utoa(port uint16) string { return strconv.FormatUint(uint64(port), 10) }

func atou(s string) (uint16, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil
}
