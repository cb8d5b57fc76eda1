package resources

// changeLog lists the hosts whose endpoints changed, the newest last. It is a
// value: entries are added by making another.
type changeLog struct {
	// last is the number of the newest entry; numbers count from 1.
	last  uint64
	hosts []string
}

// maxLog is how many entries are kept. A reader that is further behind starts
// from nothing.
const maxLog = 4096

// add returns the log with the hosts at its end.
func (l changeLog) add(hosts []string) changeLog {
	if len(hosts) == 0 {
		return l
	}
	l.last += uint64(len(hosts))
	l.hosts = append(l.hosts, hosts...)
	if len(l.hosts) > 2*maxLog {
		// A new array: readers may hold the old one.
		l.hosts = append([]string(nil), l.hosts[len(l.hosts)-maxLog:]...)
	}
	return l
}

// since lists the hosts that changed after an entry; ok is false when the log
// does not reach back so far.
func (l changeLog) since(seen uint64) (hosts []string, ok bool) {
	n := l.last - seen
	if n > uint64(len(l.hosts)) {
		return nil, false
	}
	return l.hosts[uint64(len(l.hosts))-n:], true
}
