package release

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path"
	"path/filepath"

	"github.com/isthmus-mesh/isthmus/lab/internal/fetch"
)

// Official says where a program's makers publish it ready-made.
type Official struct {
	// Site is the URL under which they do.
	Site string
	// Folder stands for Site under a mirror and in lists of checksums.
	Folder string
	Files  []ReleaseFile
}

// ReleaseFile is a file of a release.
type ReleaseFile struct {
	// Path is that of the file under Site.
	Path string
	// Checksums is the path under Site of a list with the file's SHA-256.
	Checksums string
	// Members are the paths of the commands in it, when it is a .tar.gz; none
	// when it is a command itself.
	Members []string
}

// Downloads says where ready-made programs come from.
type Downloads struct {
	client *fetch.Client
	mirror *url.URL    // nil: the makers' own sites
	pins   fetch.Lines // nil: the checksums that the site publishes
	// unusable are sites, by their host, that need not be asked again.
	unusable map[string]error
}

// NewDownloads checks a mirror and a list of checksums; either may be "".
// Without a list, the checksums beside the files are believed: they guard
// against damage, and TLS against everyone but the site itself.
func NewDownloads(client *fetch.Client, mirror, checksums string) (*Downloads, error) {
	s := &Downloads{client: client, unusable: map[string]error{}}
	if checksums != "" {
		raw, err := os.ReadFile(checksums)
		if err != nil {
			return nil, fmt.Errorf("read the list of checksums: %w", err)
		}
		if s.pins, err = fetch.ParseLines(string(raw)); err != nil {
			return nil, fmt.Errorf("list of checksums %s, %w", checksums, err)
		}
	}

	if mirror == "" {
		return s, nil
	}

	u, err := url.Parse(mirror)
	if err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}

	switch {
	case u.Scheme == "https" && u.Host != "", u.Scheme == "file" && u.Host == "" && u.Path != "":
	case u.Scheme == "http" && u.Host != "":
		if s.pins == nil && !isLoopback(u.Hostname()) {
			return nil, fmt.Errorf("mirror %s: over http anyone on the way can change the programs, which run as root: use https, or name their checksums with --checksum-file", u.Redacted())
		}
	default:
		return nil, fmt.Errorf("mirror %q: must be https://HOST/…, http://HOST/… or file:///…", u.Redacted())
	}
	s.mirror = u
	return s, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// url is where a file of a release is asked for.
func (s *Downloads) url(o *Official, file string) *url.URL {
	if s.mirror != nil {
		return s.mirror.JoinPath(o.Folder, file)
	}
	u, err := url.Parse(o.Site)
	if err != nil {
		panic(err) // a constant of this package
	}
	return u.JoinPath(file)
}

// site is what people call the place of a program's releases.
func (s *Downloads) site(o *Official) string {
	u := s.url(o, "")
	if u.Host == "" {
		return u.String()
	}
	return u.Host
}

// download puts those of p's commands into out that can be had ready-made, and
// tells where they come from. A command that cannot be had is left out, with a
// line that says why; one that is had but is not right is an error.
func (s *Store) download(ctx context.Context, p Program, out string) (Origins, error) {
	if s.Downloads == nil || p.Official == nil {
		return nil, nil
	}

	site := s.Downloads.site(p.Official)
	if why := s.Downloads.unusable[site]; why != nil {
		fmt.Fprintf(s.Out, "%s: compiling it, since %s cannot be used\n", p.label(), site)
		return nil, nil
	}

	var all Origins
	for _, file := range p.Official.Files {
		got, err := s.downloadFile(ctx, p, file, out)
		var unusable *fetch.SiteError
		switch {
		case errors.Is(err, fetch.ErrNotFound):
			fmt.Fprintf(s.Out, "%s: %s has no %s: compiling it\n", p.label(), site, file.Path)
		case errors.Is(err, errNotPinned):
			fmt.Fprintf(s.Out, "%s: %s is not in the list of checksums: compiling it\n", p.label(), path.Join(p.Official.Folder, file.Path))
		case errors.As(err, &unusable):
			s.Downloads.unusable[site] = err
			fmt.Fprintf(s.Out, "%s: %s cannot be used (%v): compiling instead, which takes minutes; --mirror URL names another source\n", p.label(), site, err)
			return all, nil
		case err != nil:
			return nil, advise(err)
		}

		all = append(all, got...)
	}

	return all, nil
}

// advise adds what to do about a download that went wrong.
func advise(err error) error {
	switch {
	case errors.As(err, new(*fetch.BrokenError)):
		return fmt.Errorf("%w: run the command again to go on from there, or with --from-source to compile it instead", err)
	case errors.As(err, new(*fetch.ChecksumError)):
		return fmt.Errorf("%w: run the command again; if it stays so, something on the way or the source itself changes files: use another --mirror, or --from-source to compile it instead", err)
	}
	return err
}

// errNotPinned says that the user's list lacks a file.
var errNotPinned = errors.New("not in the list of checksums")

// wanted is the checksum that a file must have.
func (s *Downloads) wanted(ctx context.Context, o *Official, file ReleaseFile) (fetch.Sum, error) {
	if s.pins != nil {
		sum, ok := s.pins[path.Join(o.Folder, file.Path)]
		if !ok {
			return fetch.Sum{}, errNotPinned
		}
		return sum, nil
	}

	raw, err := s.client.Small(ctx, s.url(o, file.Checksums).String())
	if err != nil {
		return fetch.Sum{}, err
	}

	lines, err := fetch.ParseLines(string(raw))
	if err == nil {
		var sum fetch.Sum
		if sum, err = lines.ForFile(file.Path); err == nil {
			return sum, nil
		}
	}

	// Such as the page of a network that wants a login first.
	return fetch.Sum{}, &fetch.SiteError{Err: fmt.Errorf("%s is no list of checksums: %w", s.url(o, file.Checksums).Redacted(), err)}
}

// downloadFile gets one file of a release, and the commands in it into out. The
// download is kept by its checksum until it is whole, so that two releases
// never mix.
func (s *Store) downloadFile(ctx context.Context, p Program, file ReleaseFile, out string) (Origins, error) {
	sum, err := s.Downloads.wanted(ctx, p.Official, file)
	if err != nil {
		return nil, err
	}

	parts := filepath.Join(s.Cache, "downloads")
	if err := os.MkdirAll(parts, 0o755); err != nil {
		return nil, fmt.Errorf("make a directory for downloads: %w", err)
	}

	part := filepath.Join(parts, sum.String()+".part")
	from := s.Downloads.url(p.Official, file.Path)
	if err := s.fetch(ctx, p, from, sum, part); err != nil {
		return nil, err
	}

	commands := []string{path.Base(file.Path)}
	if len(file.Members) > 0 {
		if commands, err = extract(part, out, file.Members); err != nil {
			return nil, err
		}
		// A killed run would download it again: no harm.
		_ = os.Remove(part)
	} else if err := moveCommand(part, filepath.Join(out, commands[0])); err != nil {
		return nil, err
	}

	var all Origins
	for _, command := range commands {
		all = append(all, Origin{
			Command: command, URL: from.Redacted(), Path: path.Join(p.Official.Folder, file.Path),
			SHA256: sum, Pinned: s.Downloads.pins != nil,
		})
	}
	return all, nil
}

// moveCommand makes a finished download a command.
func moveCommand(part, command string) error {
	if err := os.Chmod(part, 0o755); err != nil {
		return fmt.Errorf("put a download in place: %w", err)
	}
	if err := os.Rename(part, command); err != nil {
		return fmt.Errorf("put a download in place: %w", err)
	}
	return nil
}

// fetch downloads a file to part and shows how far it is.
func (s *Store) fetch(ctx context.Context, p Program, from *url.URL, sum fetch.Sum, part string) error {
	name := path.Base(from.Path)
	show := newDisplay(s.Out, p.label(), "downloading "+name)
	outcome := ""
	defer func() { show.end(outcome) }()

	err := s.Downloads.client.File(ctx, from.String(), sum, part, func(done, total int64) {
		text := "downloading " + name + ", " + fetch.Bytes(done)
		if total >= 0 {
			text += " of " + fetch.Bytes(total)
		}
		show.set(text)
	})
	if err == nil {
		outcome = name + " downloaded from " + s.Downloads.site(p.Official) + ", checksum right,"
	}
	return err
}
