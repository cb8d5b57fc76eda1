package fetch

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/xds"
)

// The file in which a client keeps what it has in force is compressed with gzip,
// whose checksum tells of damage: one line of JSON, the head, and then as many
// resources as the head says, each an envoy.service.discovery.v3.Resource behind
// its length, a varint.
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
	buf  bytes.Buffer
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

// record is a resource as it stands in the file.
type record struct {
	key     resourceKey
	version string
	raw     []byte // an encoded envoy.service.discovery.v3.Resource; until the next one is read
}

// next gives the next resource, and io.EOF after the last one, when the checksum
// has been found right.
func (k *keptReader) next() (record, error) {
	if k.left == 0 {
		switch _, err := k.in.ReadByte(); {
		case err == nil:
			return record{}, errors.New("there is something after its last resource")
		default:
			return record{}, err
		}
	}

	r, err := k.record()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // with resources left, no end is the right one
	}
	if err == nil && (r.key.name == "" || !xds.Known(r.key.typeURL)) {
		err = fmt.Errorf("name %q, type %q", r.key.name, r.key.typeURL)
	}
	if err != nil {
		return record{}, fmt.Errorf("resource %d of %d: %w", k.head.Resources-k.left+1, k.head.Resources, err)
	}
	k.left--
	return r, nil
}

func (k *keptReader) record() (record, error) {
	size, err := binary.ReadUvarint(k.in)
	if err != nil {
		return record{}, err
	}
	if size > maxKept {
		return record{}, fmt.Errorf("it has %d bytes", size)
	}

	// The buffer grows as bytes come, whatever the length says.
	k.buf.Reset()
	if _, err := io.CopyN(&k.buf, k.in, int64(size)); err != nil {
		return record{}, err
	}
	return scanRecord(k.buf.Bytes())
}

// The field numbers of envoy.service.discovery.v3.Resource and google.protobuf.Any
// that are looked at here.
const (
	resourceVersion = 1
	resourceBody    = 2
	resourceName    = 3
	anyTypeURL      = 1
)

// scanRecord reads what is said of a resource without decoding it: in a mesh that
// changes all the time, most of a file is copied, again and again.
func scanRecord(raw []byte) (record, error) {
	r := record{raw: raw}
	err := fields(raw, func(n protowire.Number, value []byte) error {
		switch n {
		case resourceVersion:
			r.version = string(value)
		case resourceName:
			r.key.name = string(value)
		case resourceBody:
			return fields(value, func(n protowire.Number, value []byte) error {
				if n == anyTypeURL {
					r.key.typeURL = string(value)
				}
				return nil
			})
		}
		return nil
	})
	return r, err
}

// fields calls yield for each field of an encoded message that has a length.
func fields(raw []byte, yield func(protowire.Number, []byte) error) error {
	for len(raw) > 0 {
		number, kind, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return protowire.ParseError(n)
		}
		raw = raw[n:]

		if kind != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(number, kind, raw); n < 0 {
				return protowire.ParseError(n)
			}
			raw = raw[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(raw)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err := yield(number, value); err != nil {
			return err
		}
		raw = raw[n:]
	}
	return nil
}

// decode gives a resource for the handler.
func (r *record) decode() (Resource, error) {
	var m discoveryv3.Resource
	if err := proto.Unmarshal(r.raw, &m); err != nil {
		return Resource{}, fmt.Errorf("%s %s: %w", xds.Short(r.key.typeURL), r.key.name, err)
	}
	out := Resource{Name: m.GetName(), Version: m.GetVersion(), Body: m.GetResource()}
	if out.key() != r.key {
		// What is there twice counts where it stands last, and not for both the same.
		return Resource{}, fmt.Errorf("%s %s: a field is there twice", xds.Short(r.key.typeURL), r.key.name)
	}
	return out, nil
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
		r, err := k.next()
		if errors.Is(err, io.EOF) {
			return &k.head, byType, nil
		}
		if err != nil {
			return nil, nil, err
		}
		if seen[r.key] {
			return nil, nil, fmt.Errorf("%s %s is there twice", xds.Short(r.key.typeURL), r.key.name)
		}
		seen[r.key] = true
		res, err := r.decode()
		if err != nil {
			return nil, nil, err
		}
		byType[r.key.typeURL] = append(byType[r.key.typeURL], res)
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
	raw, err := proto.Marshal(&discoveryv3.Resource{Name: r.Name, Version: r.Version, Resource: r.Body})
	if err != nil {
		return err
	}
	return k.copy(raw)
}

// copy adds a resource that is encoded already.
func (k *keptWriter) copy(raw []byte) error {
	var size [binary.MaxVarintLen64]byte
	n, err := k.out.Write(binary.AppendUvarint(size[:0], uint64(len(raw))))
	if err != nil {
		return err
	}
	if _, err := k.out.Write(raw); err != nil {
		return err
	}
	k.left--
	if k.bytes += n + len(raw); k.bytes > maxKept {
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
