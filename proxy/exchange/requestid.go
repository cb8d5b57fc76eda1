package exchange

import (
	"encoding/binary"
	"math/rand/v2"
)

// newRequestID returns a random UUID.
func newRequestID() [36]byte { return formatUUID(rand.Uint64(), rand.Uint64()) }

// formatUUID writes a UUID of version 4 (RFC 9562 section 5.4), of whose bits high and low are all but those of version
// and variant.
func formatUUID(high, low uint64) (out [36]byte) {
	high = high&^0xf000 | 0x4000 // version 4
	low = low&^(0b11<<62) | 0b10<<62

	// Groups of 8, 4, 4, 4 and 12 digits.
	second, third := hexDigits(uint32(high)), hexDigits(uint32(low>>32))
	binary.BigEndian.PutUint64(out[0:], hexDigits(uint32(high>>32)))
	binary.BigEndian.PutUint32(out[9:], uint32(second>>32))
	binary.BigEndian.PutUint32(out[14:], uint32(second))
	binary.BigEndian.PutUint32(out[19:], uint32(third>>32))
	binary.BigEndian.PutUint32(out[24:], uint32(third))
	binary.BigEndian.PutUint64(out[28:], hexDigits(uint32(low)))
	out[8], out[13], out[18], out[23] = '-', '-', '-', '-'
	return out
}

// hexDigits returns the eight digits of v in lower case, the first one in the highest byte. All are made at once: each
// request gets an id.
func hexDigits(v uint32) uint64 {
	x := uint64(v)
	x = (x | x<<16) & 0x0000ffff0000ffff
	x = (x | x<<8) & 0x00ff00ff00ff00ff
	x = (x | x<<4) & 0x0f0f0f0f0f0f0f0f // a digit in each byte
	letters := (x + 0x0606060606060606) >> 4 & 0x0101010101010101
	return x + 0x3030303030303030 + letters*('a'-10-'0')
}
