package fetch

import (
	"encoding/hex"
	"fmt"
	"path"
	"strings"
)

// Sum is a SHA-256.
type Sum [32]byte

func (s Sum) String() string { return hex.EncodeToString(s[:]) }

// MarshalText writes a sum as hexadecimal digits.
func (s Sum) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads one.
func (s *Sum) UnmarshalText(text []byte) error {
	got, err := ParseSum(string(text))
	*s = got
	return err
}

// ParseSum reads 64 hexadecimal digits.
func ParseSum(text string) (Sum, error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(Sum{}) {
		return Sum{}, fmt.Errorf("%q is no SHA-256", shorten(text))
	}
	return Sum(raw), nil
}

// Lines is a list of checksums: by a file's name, or by "" where a sum stands
// without any.
type Lines map[string]Sum

// ParseLines reads a list of checksums as sha256sum(1) writes it, or a lone sum
// as some releases have it. Empty lines, and lines that begin with "#", are
// left out.
func ParseLines(text string) (Lines, error) {
	lines := Lines{}
	for number, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}

		digits, name, _ := strings.Cut(line, " ")
		sum, err := ParseSum(digits)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w; a line is 64 hexadecimal digits, two blanks and a name", number+1, err)
		}

		// An asterisk before the name stands for a file read in binary mode.
		name = strings.TrimPrefix(strings.TrimSpace(name), "*")
		if other, twice := lines[name]; twice && other != sum {
			return nil, fmt.Errorf("line %d: a second sum for %q", number+1, name)
		}
		lines[name] = sum
	}

	return lines, nil
}

// ForFile finds the sum of a file by the last part of its name; a lone sum
// without a name is that of any.
func (l Lines) ForFile(name string) (Sum, error) {
	if sum, ok := l[""]; ok && len(l) == 1 {
		return sum, nil
	}
	for listed, sum := range l {
		if listed != "" && path.Base(listed) == path.Base(name) {
			return sum, nil
		}
	}
	return Sum{}, fmt.Errorf("no sum for %s in the list of checksums", path.Base(name))
}

// shorten keeps the beginning of a text that should have been something else.
func shorten(text string) string {
	const enough = 20
	if len(text) > enough {
		return text[:enough] + "…"
	}
	return text
}
