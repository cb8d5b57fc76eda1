package agent

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
)

// tcpListen is the state of a socket that takes connections, in /proc/net/tcp
// (TCP_LISTEN of the kernel's include/net/tcp_states.h).
const tcpListen = "0A"

// AppListens tells whether anybody but a user listens on a TCP port, by the tables
// tcp and tcp6 in a directory like /proc/net: those of the network namespace, which
// a pod's containers share. The user is the proxy's own, whom no application runs
// as: injection sees to that.
func AppListens(net fs.FS, proxyUser int) (bool, error) {
	for _, name := range []string{"tcp", "tcp6"} {
		table, err := net.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without IPv6 has no tcp6
		}
		if err != nil {
			return false, err
		}

		found, err := othersListen(table, strconv.Itoa(proxyUser))
		_ = table.Close() // it was only read
		if found || err != nil {
			return found, err
		}
	}
	return false, nil
}

// othersListen looks through one table. Its columns, of which the first line holds
// the names, are: number, local and remote address, state, the queues, the timer,
// retransmissions, user (proc(5)).
func othersListen(table io.Reader, user string) (bool, error) {
	const state, owner = 3, 7
	lines := bufio.NewScanner(table)
	for n := 0; lines.Scan(); n++ {
		columns := strings.Fields(lines.Text())
		if n == 0 {
			continue
		}
		if len(columns) <= owner {
			return false, fmt.Errorf("line %d of the table of sockets has %d columns", n+1, len(columns))
		}
		if columns[state] == tcpListen && columns[owner] != user {
			return true, nil
		}
	}
	return false, lines.Err()
}
