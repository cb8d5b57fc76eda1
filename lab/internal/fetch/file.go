package fetch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// ChecksumError says that a whole file arrived which is not the one wanted.
type ChecksumError struct {
	URL       string
	Got, Want Sum
}

func (e *ChecksumError) Error() string {
	return fmt.Sprintf("%s has SHA-256 %s, but should have %s; it is damaged or not what was released, and is thrown away", e.URL, e.Got, e.Want)
}

// BrokenError says that a file began to arrive and could not be finished. What
// came is kept, and the next call of File for it goes on from there.
type BrokenError struct {
	URL  string
	Done int64 // bytes that are here
	Err  error
}

func (e *BrokenError) Error() string {
	return fmt.Sprintf("the download of %s broke off after %s: %v", e.URL, Bytes(e.Done), e.Err)
}

func (e *BrokenError) Unwrap() error { return e.Err }

// Bytes writes a number of bytes for people.
func Bytes(n int64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

// Progress is told how much of a file is here, and how long it will be, in
// bytes; total is negative while that is unknown.
type Progress func(done, total int64)

// File makes path the file at rawURL with the checksum want; what an earlier
// call left at path is taken as its beginning. When it returns nil the file is
// whole, right and on disk. Errors are ErrNotFound and SiteError, while nothing
// has come from the server, then BrokenError, and ChecksumError. Two calls must
// not work on one path at a time.
func (c *Client) File(ctx context.Context, rawURL string, want Sum, path string, progress Progress) error {
	part, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("keep a download: %w", err)
	}
	defer part.Close()

	d := &download{client: c, url: rawURL, part: part, progress: progress}
	if err := d.open(want); err != nil {
		return err
	}

	for again := false; ; again = true {
		if err := d.finish(ctx); err != nil {
			return d.explain(ctx, err)
		}

		got, err := sumOf(part)
		if err != nil {
			return err
		}
		if got == want {
			break
		}
		if err := d.restart(); err != nil {
			return err
		}

		// Two halves of different files make a wrong whole: a file that was
		// put together gets one more try, from its beginning.
		if again || !d.pieced {
			return &ChecksumError{URL: rawURL, Got: got, Want: want}
		}
	}

	if err := part.Sync(); err != nil {
		return fmt.Errorf("write %s to disk: %w", path, err)
	}
	return nil
}

// download is one file on its way.
type download struct {
	client   *Client
	url      string
	part     *os.File
	progress Progress

	have     int64 // bytes in part
	complete bool  // whether these are all
	got      bool  // whether any byte came from the server in this call
	pieced   bool  // whether part comes from more than one request
}

// open takes over what an earlier call left, which may be all there is.
func (d *download) open(want Sum) error {
	info, err := d.part.Stat()
	if err != nil {
		return fmt.Errorf("keep a download: %w", err)
	}

	d.have = info.Size()
	if d.have == 0 {
		return nil
	}

	got, err := sumOf(d.part)
	if err != nil {
		return err
	}
	d.pieced, d.complete = true, got == want
	return nil
}

// restart throws away what is here.
func (d *download) restart() error {
	if err := d.part.Truncate(0); err != nil {
		return fmt.Errorf("throw away a download: %w", err)
	}
	d.have, d.complete = 0, false
	return nil
}

// finish makes requests until the file is whole.
func (d *download) finish(ctx context.Context) error {
	for fruitless := 0; !d.complete; {
		before := d.have
		err := d.request(ctx)
		if err == nil {
			continue
		}
		if ctx.Err() != nil || !d.got || errors.As(err, new(*diskError)) {
			return err
		}
		if d.have > before {
			fruitless = 0
		}
		if fruitless++; fruitless >= d.client.limits.Tries {
			return err
		}

		select {
		case <-time.After(d.client.limits.Pause):
		case <-ctx.Done():
			return ctx.Err()
		}
		d.pieced = true
	}
	return nil
}

// request asks for what is missing and appends what comes.
func (d *download) request(ctx context.Context) error {
	a, err := d.client.get(ctx, d.url, d.have)
	if err != nil {
		return err
	}
	defer a.Close()

	switch {
	case a.StatusCode == http.StatusPartialContent && d.continues(a):
	case a.StatusCode == http.StatusOK:
		// A server that knows no ranges sends the file from its beginning.
		if err := d.restart(); err != nil {
			return err
		}
	default:
		// What is here is no beginning of the server's file.
		d.got = true
		if err := d.restart(); err != nil {
			return err
		}
		return fmt.Errorf("%s answers %s to the wish for the rest of the file", a.Request.URL.Host, a.Status)
	}

	total := int64(-1)
	if a.ContentLength >= 0 {
		total = d.have + a.ContentLength
	}
	return d.receive(a, total)
}

// continues reports whether a partial answer begins where the file here ends
// (RFC 9110 section 14.4).
func (d *download) continues(a *answer) bool {
	return strings.HasPrefix(a.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", d.have))
}

// receive appends a body to the file. An error in reading is the server's, one
// in writing is this machine's and ends the download.
func (d *download) receive(a *answer, total int64) error {
	buf := make([]byte, 256<<10)
	for {
		n, err := a.Read(buf)
		if n > 0 {
			d.got = true
			if _, err := d.part.WriteAt(buf[:n], d.have); err != nil {
				return &diskError{fmt.Errorf("keep a download: %w", err)}
			}
			d.have += int64(n)
			d.progress(d.have, total)
		}

		if err == io.EOF {
			d.complete = true
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// diskError is an error of this machine, which no other request would mend.
type diskError struct{ error }

func (e *diskError) Unwrap() error { return e.error }

// explain turns the error of the last request into that of the whole.
func (d *download) explain(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, new(*diskError)):
		return err
	case d.got:
		return &BrokenError{URL: d.url, Done: d.have, Err: err}
	case errors.Is(err, ErrNotFound), errors.As(err, new(*SiteError)):
		return err
	}
	// The head of an answer came, and nothing after it.
	return &SiteError{err}
}

// sumOf reads a file from its beginning.
func sumOf(f *os.File) (Sum, error) {
	hash := sha256.New()
	if _, err := io.Copy(hash, io.NewSectionReader(f, 0, 1<<62)); err != nil {
		return Sum{}, fmt.Errorf("read a download again: %w", err)
	}
	return Sum(hash.Sum(nil)), nil
}
