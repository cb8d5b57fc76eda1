package fetch

import (
	"strings"
	"testing"
)

const (
	oneSum   = "1111111111111111111111111111111111111111111111111111111111111111"
	otherSum = "2222222222222222222222222222222222222222222222222222222222222222"
)

func TestParseLines(t *testing.T) {
	for _, c := range []struct{ name, text, file, want, wrong string }{
		{
			name: "a lone sum, as Kubernetes has it",
			text: oneSum,
			file: "bin/linux/amd64/kubelet",
			want: oneSum,
		},
		{
			name: "a list",
			text: oneSum + "  a.tar.gz\n" + otherSum + "  b.tar.gz\n",
			file: "v1/b.tar.gz",
			want: otherSum,
		},
		{
			name: "binary mode, a directory before the name, a comment",
			text: "# made by hand\n\n" + oneSum + " *release/a.tgz\r\n",
			file: "v1/a.tgz",
			want: oneSum,
		},
		{
			name:  "a file that is not listed",
			text:  oneSum + "  a.tar.gz\n",
			file:  "v1/b.tar.gz",
			wrong: "no sum for b.tar.gz",
		},
		{
			name:  "a name that only ends alike",
			text:  oneSum + "  other-a.tgz\n",
			file:  "v1/a.tgz",
			wrong: "no sum for a.tgz",
		},
		{
			name:  "a page",
			text:  "<!doctype html>\n<html>",
			wrong: "line 1: \"<!doctype\" is no SHA-256",
		},
		{
			name:  "a SHA-512",
			text:  oneSum + oneSum,
			wrong: "is no SHA-256",
		},
		{
			name:  "two sums for a file",
			text:  oneSum + "  a\n" + otherSum + "  a\n",
			wrong: "line 2: a second sum for \"a\"",
		},
		{
			name:  "nothing",
			file:  "v1/a.tgz",
			wrong: "no sum for a.tgz",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			lines, err := ParseLines(c.text)
			var got Sum
			if err == nil {
				got, err = lines.ForFile(c.file)
			}
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Fatalf("got %v, want %q", err, c.wrong)
				}
				return
			}
			if err != nil || got.String() != c.want {
				t.Fatalf("got %s, %v; want %s", got, err, c.want)
			}
		})
	}
}
