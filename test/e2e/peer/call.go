package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// checksum is that of noise(n).
func checksum(n int64) (string, error) {
	sum := sha256.New()
	if _, err := io.Copy(sum, noise(n)); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sum.Sum(nil)), nil
}

func upload(ctx context.Context, url string, n int64) error {
	want, err := checksum(n)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, noise(n))
	if err != nil {
		return err
	}
	req.ContentLength = n
	body, err := answer(req)
	if err != nil {
		return err
	}
	if got := fmt.Sprintf("%d %s", n, want); string(body) != got {
		return fmt.Errorf("sent %q, the server received %q", got, body)
	}
	fmt.Printf("upload ok: %s\n", body)
	return nil
}

func download(ctx context.Context, url string, n int64) error {
	want, err := checksum(n)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s?bytes=%d", url, n), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	sum := sha256.New()
	got, err := io.Copy(sum, resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || fmt.Sprintf("%x", sum.Sum(nil)) != want {
		return fmt.Errorf("status %d, %d bytes of checksum %x, want %d of %s", resp.StatusCode, got, sum.Sum(nil), n, want)
	}
	fmt.Printf("download ok: %d %s\n", got, want)
	return nil
}

func answer(req *http.Request) ([]byte, error) {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, body)
	}
	return body, err
}

func echoWebSocket(url string) error {
	conn, err := websocket.Dial(url, "", "http://peer/")
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	for i := range 100 {
		sent := strings.Repeat(fmt.Sprint("message ", i, " "), 50)
		if err := websocket.Message.Send(conn, sent); err != nil {
			return err
		}
		var got string
		if err := websocket.Message.Receive(conn, &got); err != nil {
			return err
		}
		if got != sent {
			return fmt.Errorf("message %d came back as %q", i, got)
		}
	}
	fmt.Println("websocket ok: 100 messages echoed")
	return nil
}

// callGRPC runs gRPC's own interoperability cases: they end the process on a failure.
func callGRPC(ctx context.Context, addr string) error {
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	client := testgrpc.NewTestServiceClient(conn)
	interop.DoEmptyUnaryCall(ctx, client)
	interop.DoLargeUnaryCall(ctx, client)
	interop.DoClientStreaming(ctx, client)
	interop.DoServerStreaming(ctx, client)
	interop.DoPingPong(ctx, client)
	interop.DoCustomMetadata(ctx, client)
	interop.DoStatusCodeAndMessage(ctx, client)
	interop.DoCancelAfterFirstResponse(ctx, client)
	fmt.Println("grpc ok: unary, large, three kinds of stream, metadata, status, cancel")
	return nil
}

func talkServerFirst(ctx context.Context, addr string) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	r := bufio.NewReader(conn)
	first, err := r.ReadString('\n')
	if err != nil {
		return fmt.Errorf("waiting for the greeting: %w", err)
	}
	if first != greeting {
		return fmt.Errorf("greeting %q, want %q", first, greeting)
	}
	if _, err := io.WriteString(conn, "ping\n"); err != nil {
		return err
	}
	if echoed, err := r.ReadString('\n'); err != nil || echoed != "ping\n" {
		return errors.Join(err, fmt.Errorf("echo %q, want \"ping\"", echoed))
	}
	fmt.Println("tcp ok: the server spoke first, then echoed")
	return nil
}
