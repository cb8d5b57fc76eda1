package fetch

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/isthmus-mesh/isthmus/xds"
)

// The file in which a client keeps what it has in force is compressed with gzip,
// whose checksum tells of damage: one line of JSON, the head, and then as many
// resources as the head says, each an envoy.service.discovery.v3.Resource behind
// its length (as package protodelim has it).
const (
	// keptFormat is the form of the file. Another one is not read.
	keptFormat = 1
	// maxKeptHead and maxKept bound, in bytes, the head and the whole when it is
	// uncompressed. A mesh of ten thousand services comes to some 30 MiB.
	maxKeptHead = 64 << 10
	maxKept     = 64 << 20
)

// keptHead says whose the resources are, and until when they may be used.
type keptHead struct {
	Format int       `json:"format"`
	Owner  string    `json:"owner"`
	At     time.Time `json:"at"` // when the file was written
	Until  time.Time `json:"until"`
	// Types are those that discovery has served, be it with nothing.
	Types     []string `json:"types"`
	Resources int      `json:"resources"`
}

// check refuses what another has left, and what is not to be used any more.
func (h *keptHead) check(owner string, now time.Time) error {
	switch {
	case h.Format > keptFormat:
		return fmt.Errorf("it has format %d, which is newer than this proxy's, %d", h.Format, keptFormat)
	case h.Format != keptFormat:
		return fmt.Errorf("it has format %d, want %d", h.Format, keptFormat)
	case h.Owner != owner:
		return fmt.Errorf("it is of %q, not of %q", h.Owner, owner)
	case !now.Before(h.Until):
		return fmt.Errorf("it was good until %s", h.Until.Format(time.RFC3339))
	}
	for _, t := range h.Types {
		if !xds.Known(t) {
			return fmt.Errorf("type %q is not known", t)
		}
	}
	return nil
}

// keptReader reads a file from its beginning, resource by resource.
type keptReader struct {
	head keptHead
	in   *bufio.Reader
	left int
}

// newKeptReader reads the head.
func newKeptReader(r io.Reader) (*keptReader, error) {
	unzipped, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	unzipped.Multistream(false)

	k := &keptReader{in: bufio.NewReaderSize(io.LimitReader(unzipped, maxKept), maxKeptHead)}
	line, err := k.in.ReadSlice('\n')
	if err != nil {
		return nil, fmt.Errorf("read its head: %w", err)
	}
	if err := json.Unmarshal(line, &k.head); err != nil {
		return nil, fmt.Errorf("read its head: %w", err)
	}
	if k.head.Resources < 0 {
		return nil, fmt.Errorf("its head tells of %d resources", k.head.Resources)
	}
	k.left = k.head.Resources
	return k, nil
}

// next gives the next resource, and io.EOF after the last one, when the checksum
// has been found right.
func (k *keptReader) next() (Resource, error) {
	if k.left == 0 {
		switch _, err := k.in.ReadByte(); {
		case err == nil:
			return Resource{}, errors.New("there is something after its last resource")
		default:
			return Resource{}, err
		}
	}

	var m discoveryv3.Resource
	if err := (protodelim.UnmarshalOptions{MaxSize: maxKept}).UnmarshalFrom(k.in, &m); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // with resources left, no end is the right one
		}
		return Resource{}, fmt.Errorf("resource %d of %d: %w", k.head.Resources-k.left+1, k.head.Resources, err)
	}
	if m.GetName() == "" || !xds.Known(m.GetResource().GetTypeUrl()) {
		return Resource{}, fmt.Errorf("resource %d of %d: name %q, type %q", k.head.Resources-k.left+1, k.head.Resources, m.GetName(), m.GetResource().GetTypeUrl())
	}
	k.left--
	return Resource{Name: m.GetName(), Version: m.GetVersion(), Body: m.GetResource()}, nil
}

// readKept reads a whole file. Nothing of one that is damaged anywhere is given.
func readKept(r io.Reader, owner string, now time.Time) (*keptHead, map[string][]Resource, error) {
	k, err := newKeptReader(r)
	if err != nil {
		return nil, nil, err
	}
	if err := k.head.check(owner, now); err != nil {
		return nil, nil, err
	}

	byType := make(map[string][]Resource, len(k.head.Types))
	seen := make(map[resourceKey]bool)
	for {
		res, err := k.next()
		if errors.Is(err, io.EOF) {
			return &k.head, byType, nil
		}
		if err != nil {
			return nil, nil, err
		}
		if seen[res.key()] {
			return nil, nil, fmt.Errorf("%s %s is there twice", xds.Short(res.Body.GetTypeUrl()), res.Name)
		}
		seen[res.key()] = true
		byType[res.Body.GetTypeUrl()] = append(byType[res.Body.GetTypeUrl()], res)
	}
}

// keptWriter writes a file.
type keptWriter struct {
	zipped *gzip.Writer
	out    *bufio.Writer
	bytes  int
	left   int
}

// newKeptWriter writes the head. As many resources as it says must follow.
func newKeptWriter(w io.Writer, head keptHead) (*keptWriter, error) {
	// Resources are much alike: even the fastest way makes them a tenth of
	// their size, and the file is in memory, too.
	zipped, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}

	line, err := json.Marshal(head)
	if err != nil {
		return nil, err
	}
	k := &keptWriter{zipped: zipped, out: bufio.NewWriter(zipped), bytes: len(line) + 1, left: head.Resources}
	if k.bytes > maxKeptHead {
		return nil, fmt.Errorf("its head has %d bytes, more than %d", k.bytes, maxKeptHead)
	}
	_, err = k.out.Write(append(line, '\n'))
	return k, err
}

// errTooMuch is why nothing is kept of a very large configuration.
var errTooMuch = fmt.Errorf("there are more than %d MiB of it", maxKept>>20)

func (k *keptWriter) add(r Resource) error {
	n, err := protodelim.MarshalTo(k.out, &discoveryv3.Resource{Name: r.Name, Version: r.Version, Resource: r.Body})
	if err != nil {
		return err
	}
	k.left--
	if k.bytes += n; k.bytes > maxKept {
		return errTooMuch
	}
	return nil
}

// close ends the file. It is an error when resources are missing.
func (k *keptWriter) close() error {
	if k.left != 0 {
		return fmt.Errorf("%d resources in force are not at hand", k.left)
	}
	if err := k.out.Flush(); err != nil {
		return err
	}
	return k.zipped.Close()
}
