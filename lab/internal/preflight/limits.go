package preflight

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

const (
	watchLimitFile = "/proc/sys/fs/inotify/max_user_instances"
	// A cluster's components hold some 25 inotify instances, mostly to notice
	// new certificates; Linux allows 128 by default, for all of root's
	// programs together.
	enoughWatches = 512
	manyWatches   = 1024
)

// RaiseWatchLimit raises the number of inotify instances that root may have,
// where it is too low for a few clusters, and says so on out. It is the one
// setting of the host that a lab changes, and it stays.
func RaiseWatchLimit(out io.Writer) {
	raw, err := os.ReadFile(watchLimitFile)
	if err != nil {
		return // a kernel without inotify has no limit to raise
	}

	have, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || have >= enoughWatches {
		return
	}
	if err := os.WriteFile(watchLimitFile, []byte(strconv.Itoa(manyWatches)), 0o644); err != nil {
		fmt.Fprintf(out, "note: fs.inotify.max_user_instances is %d and cannot be raised here: with more than about %d clusters, components fail with \"too many open files\"\n", have, have/25)
		return
	}
	fmt.Fprintf(out, "note: raised fs.inotify.max_user_instances from %d to %d, enough for several clusters\n", have, manyWatches)
}
