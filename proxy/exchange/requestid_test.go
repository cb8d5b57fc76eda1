package exchange

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"testing"
)

func TestHexDigits(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		v := random.Uint32()
		x := hexDigits(v)
		var got []byte
		for shift := 56; shift >= 0; shift -= 8 {
			got = append(got, byte(x>>shift))
		}
		if want := fmt.Sprintf("%08x", v); string(got) != want {
			t.Fatalf("hexDigits(%#x) = %q", v, got)
		}
	}
}

func TestFormatUUID(t *testing.T) {
	for want, halves := range map[string][2]uint64{
		"00000000-0000-4000-8000-000000000000": {0, 0},
		"ffffffff-ffff-4fff-bfff-ffffffffffff": {^uint64(0), ^uint64(0)},
		"01234567-89ab-4def-9123-456789abcdef": {0x0123456789abcdef, 0x1123456789abcdef},
	} {
		if got := formatUUID(halves[0], halves[1]); string(got[:]) != want {
			t.Errorf("formatUUID(%#x) = %s, want %s", halves, got[:], want)
		}
	}

	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	if a, b := newRequestID(), newRequestID(); a == b || !form.Match(a[:]) {
		t.Errorf("request ids %s, %s", a[:], b[:])
	}
}
