// Command tcpecho echoes what it is sent. On ports 9000 and 9001 each line
// comes back behind a prefix ("hello " unless given as the argument); on port
// 9002 the server speaks first, "220 ready", and then echoes bytes as they are.
package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	prefix := "hello "
	if len(os.Args) > 1 {
		prefix = os.Args[1] + " "
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	line := func(conn net.Conn) error { return echoLines(conn, prefix) }
	for addr, serve := range map[string]func(net.Conn) error{":9000": line, ":9001": line, ":9002": greet} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			log.Fatalf("listen on %s: %v", addr, err)
		}
		defer l.Close()
		go accept(l, serve)
	}
	log.Print("tcpecho listens on 9000, 9001 and, speaking first, 9002")
	<-ctx.Done()
}

func accept(l net.Listener, serve func(net.Conn) error) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			log.Printf("accept on %s: %v", l.Addr(), err)
			continue
		}
		go func() {
			defer conn.Close()
			if err := serve(conn); err != nil {
				log.Printf("connection from %s: %v", conn.RemoteAddr(), err)
			}
		}()
	}
}

// echoLines sends each line back behind the prefix.
func echoLines(conn net.Conn, prefix string) error {
	in := bufio.NewReader(conn)
	for {
		line, err := in.ReadString('\n')
		if line != "" {
			if _, err := io.WriteString(conn, prefix+line); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// greet speaks first, then sends every byte back.
func greet(conn net.Conn) error {
	if _, err := io.WriteString(conn, "220 ready\r\n"); err != nil {
		return err
	}
	_, err := io.Copy(conn, conn)
	return err
}
