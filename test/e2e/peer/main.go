// Command peer is both ends of the traffic that the end-to-end tests send
// through two sidecars: large bodies with checksums, WebSocket, gRPC, and a
// TCP protocol in which the server speaks first; and it looks at what passes on
// the way. It knows nothing of the mesh.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

const usage = `peer serve
peer upload   URL BYTES
peer download URL BYTES
peer websocket ws://HOST:PORT/ws
peer grpc HOST:PORT
peer tcp  HOST:PORT
peer capture PORT TEXT SECONDS`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 1 && args[0] == "serve" {
		return serve(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	switch {
	case len(args) == 3 && (args[0] == "upload" || args[0] == "download"):
		n, err := strconv.ParseInt(args[2], 10, 64)
		if err != nil {
			return fmt.Errorf("bytes: %w", err)
		}
		if args[0] == "upload" {
			return upload(ctx, args[1], n)
		}
		return download(ctx, args[1], n)
	case len(args) == 2 && args[0] == "websocket":
		return echoWebSocket(args[1])
	case len(args) == 2 && args[0] == "grpc":
		return callGRPC(ctx, args[1])
	case len(args) == 2 && args[0] == "tcp":
		return talkServerFirst(ctx, args[1])
	}

	if len(args) == 4 && args[0] == "capture" {
		port, err := strconv.ParseUint(args[1], 10, 16)
		if err != nil {
			return fmt.Errorf("port: %w", err)
		}
		seconds, err := strconv.Atoi(args[3])
		if err != nil {
			return fmt.Errorf("seconds: %w", err)
		}
		ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second)
		defer cancel()
		return capture(ctx, uint16(port), args[2])
	}
	return fmt.Errorf("usage:\n%s", usage)
}
