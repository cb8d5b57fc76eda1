package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/net/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// The ports on which peer serves.
const (
	httpAddr = ":8080"
	grpcAddr = ":9090"
	tcpAddr  = ":9002"
	greeting = "220 ready\n"
)

// serve answers on all ports until ctx ends.
func serve(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /upload", receive)
	mux.HandleFunc("GET /download", send)
	mux.Handle("/ws", websocket.Handler(func(c *websocket.Conn) { _, _ = io.Copy(c, c) }))
	web := &http.Server{Addr: httpAddr, Handler: mux, ReadHeaderTimeout: 10 * time.Second}

	grpcLis, err := net.Listen("tcp", grpcAddr)
	if err != nil {
		return err
	}
	rpc := grpc.NewServer()
	testgrpc.RegisterTestServiceServer(rpc, interop.NewTestServer())

	tcpLis, err := net.Listen("tcp", tcpAddr)
	if err != nil {
		return err
	}
	failed := make(chan error, 3)
	go func() { failed <- web.ListenAndServe() }()
	go func() { failed <- rpc.Serve(grpcLis) }()
	go func() { failed <- greet(tcpLis) }()
	select {
	case <-ctx.Done():
		rpc.Stop()
		return errors.Join(web.Close(), tcpLis.Close())
	case err := <-failed:
		return err
	}
}

// receive answers with the checksum of what came.
func receive(w http.ResponseWriter, r *http.Request) {
	sum := sha256.New()
	n, err := io.Copy(sum, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, "%d %x", n, sum.Sum(nil))
}

// send writes ?bytes=N of noise, the same for the same N.
func send(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.URL.Query().Get("bytes"), 10, 64)
	if err != nil {
		http.Error(w, "bytes: "+err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	_, _ = io.Copy(w, noise(n))
}

// noise is n bytes that no compression or buffer shortens, the same each time.
func noise(n int64) io.Reader {
	var seed [32]byte
	return io.LimitReader(rand.NewChaCha8(seed), n)
}

// greet serves a protocol in which the server speaks first, then echoes lines.
func greet(lis net.Listener) error {
	for {
		conn, err := lis.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			if _, err := io.WriteString(conn, greeting); err != nil {
				return
			}
			for lines := bufio.NewScanner(conn); lines.Scan(); {
				if _, err := fmt.Fprintf(conn, "%s\n", lines.Text()); err != nil {
					return
				}
			}
		}()
	}
}
