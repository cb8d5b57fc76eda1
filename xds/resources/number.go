package resources

import "strconv"

func utoa(port uint16) string { return strconv.FormatUint(uint64(port), 10) }

func atou(s string) (uint16, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil
}
