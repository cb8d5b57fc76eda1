package image

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// platformOf reads from a binary's ELF header what it runs on, and refuses one
// that would not run on an empty root file system.
func platformOf(path string) (*v1.Platform, error) {
	f, err := elf.Open(path)
	var missing *fs.PathError
	if err != nil && !errors.As(err, &missing) {
		return nil, fmt.Errorf("%s is not a Linux binary; build one with GOOS=linux CGO_ENABLED=0 and name it with --binary or --proxy-binary", path)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return nil, fmt.Errorf("%s needs shared libraries, which an empty image does not have; build it with CGO_ENABLED=0", path)
		}
	}
	p := &v1.Platform{OS: "linux"}
	switch f.Machine {
	case elf.EM_X86_64:
		p.Architecture = "amd64"
	case elf.EM_AARCH64:
		p.Architecture, p.Variant = "arm64", "v8"
	case elf.EM_ARM:
		p.Architecture, p.Variant = "arm", "v7"
	case elf.EM_S390:
		p.Architecture = "s390x"
	case elf.EM_RISCV:
		p.Architecture = "riscv64"
	case elf.EM_PPC64:
		p.Architecture = "ppc64le"
	default:
		return nil, fmt.Errorf("%s is for %s, which is not supported", path, f.Machine)
	}
	return p, nil
}
