// Command traffic is both ends of the requests that the failover bench counts: a
// server that says who it is and notes what it acted on, and a client that sends
// at a fixed rate whatever became of the requests before. It also reaches, from
// the node, what is to be told to them or done to them. It knows nothing of the
// mesh.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const usage = `traffic serve                      answer on the port for work until SIGTERM
traffic call                       send what is asked for on the control port
traffic ask METHOD URL [BODY]      one request, the answer's body to stdout
traffic signal SIGNAL WHICH POD WORD..
                                   signal processes by the words they were started with and the pods that they
                                   are in: WHICH is all or one, POD the beginning of a name or empty`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "traffic:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "serve":
		return serve(ctx)
	case len(args) == 1 && args[0] == "call":
		return call(ctx)
	case (len(args) == 3 || len(args) == 4) && args[0] == "ask":
		return ask(ctx, args[1], args[2], strings.Join(args[3:], ""))
	case len(args) > 4 && args[0] == "signal":
		return signalProcesses(args[1], args[2] == "one", args[3], args[4:])
	}
	return fmt.Errorf("usage:\n%s", usage)
}

// askTimeout bounds a question to a control port, which is on the same node.
const askTimeout = 20 * time.Second

func ask(ctx context.Context, method, url, body string) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()

	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()

	if resp.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
		return fmt.Errorf("%s %s: %s: %s", method, url, resp.Status, said)
	}
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}
