package sample

import (
	"slices"
	"testing"
)

func TestLibraries(t *testing.T) {
	const ldd = `	linux-vdso.so.1 (0x00007ffd4d5f2000)
	libcurl.so.4 => /lib/x86_64-linux-gnu/libcurl.so.4 (0x00007f8f5e0c4000)
	libz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007f8f5e0a5000)
	libodd.so => not found
	/lib64/ld-linux-x86-64.so.2 (0x00007f8f5e3b6000)
	libagain.so => /lib/x86_64-linux-gnu/libz.so.1 (0x00007f8f5e0a5000)
`
	want := []string{"/lib/x86_64-linux-gnu/libcurl.so.4", "/lib/x86_64-linux-gnu/libz.so.1", "/lib64/ld-linux-x86-64.so.2"}
	if got := libraries(ldd); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
