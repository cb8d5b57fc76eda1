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

// parseClusterName undoes clusterName.
func parseClusterName(name string) (port uint16, subset, hostName string, ok bool) {
	parts := strings.Split(name, "|")
	if len(parts) != 4 || parts[0] != "outbound" {
		return 0, "", "", false
	}
	port, ok = atou(parts[1])
	return port, parts[2], parts[3], ok
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
