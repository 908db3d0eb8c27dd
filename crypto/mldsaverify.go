package crypto

import (
	"bytes"
	"crypto/sha3"
	"math/bits"

	stdmldsa "filippo.io/mldsa"
)

// This file verifies ML-DSA signatures of a given mu: FIPS 204, algorithm 8. The module that does
// everything else, filippo.io/mldsa, signs a mu but verifies only messages, and so do the other Go
// modules with ML-DSA. Verification handles only public values, so nothing here has to run in
// constant time. The code follows the standard and uses its names.

const (
	mldsaMuBytes = 64

	mldsaQ = 8380417 // 2^23 - 2^13 + 1
	mldsaN = 256     // coefficients of a polynomial
	mldsaD = 13      // bits dropped from t
)

// mldsaSet is a parameter set: FIPS 204, table 1.
type mldsaSet struct {
	algorithm  []byte
	parameters func() stdmldsa.Parameters

	k, l       int
	tau        int // ±1's in the challenge
	gamma1Bits int
	gamma2     int32
	omega      int // ones in the hint
	beta       int32
	challenge  int // bytes of the challenge's hash: lambda / 4
}

var (
	mldsa44 = mldsaSet{mldsaAlgorithm(17), stdmldsa.MLDSA44, 4, 4, 39, 17, (mldsaQ - 1) / 88, 80, 78, 32}
	mldsa65 = mldsaSet{mldsaAlgorithm(18), stdmldsa.MLDSA65, 6, 5, 49, 19, (mldsaQ - 1) / 32, 55, 196, 48}
	mldsa87 = mldsaSet{mldsaAlgorithm(19), stdmldsa.MLDSA87, 8, 7, 60, 19, (mldsaQ - 1) / 32, 75, 120, 64}
)

// mldsaPoly is a polynomial, or its transform, with coefficients in [0, q).
type mldsaPoly [mldsaN]uint32

// verifyMu reports whether signature is one of mu under the encoded public key.
func (s *mldsaSet) verifyMu(public, mu, signature []byte) bool {
	zBytes := mldsaN / 8 * (1 + s.gamma1Bits)
	if len(public) != 32+s.k*mldsaN/8*10 || len(mu) != mldsaMuBytes || len(signature) != s.challenge+s.l*zBytes+s.omega+s.k {
		return false
	}
	rho, t1 := public[:32], public[32:]
	challenge, encodedZ, hint := signature[:s.challenge], signature[s.challenge:], signature[s.challenge+s.l*zBytes:]

	h, ok := s.unpackHint(hint)
	if !ok {
		return false
	}
	z := make([]mldsaPoly, s.l)
	bound := uint32(1)<<s.gamma1Bits - uint32(s.beta)
	for i := range z {
		unpackBits(encodedZ[i*zBytes:], 1+s.gamma1Bits, func(j int, v uint32) {
			z[i][j] = (1<<s.gamma1Bits + mldsaQ - v) % mldsaQ
		})
		for _, v := range z[i] {
			if min(v, mldsaQ-v) >= bound {
				return false
			}
		}
		z[i].ntt()
	}
	c := s.sampleInBall(challenge)
	c.ntt()

	hash := sha3.NewSHAKE256()
	hash.Write(mu)
	for i := range s.k {
		// w = A ∘ z - c ∘ t1 · 2^d, then w1 by the hint.
		var t, w mldsaPoly
		unpackBits(t1[i*320:], 10, func(j int, v uint32) { t[j] = v << mldsaD })
		t.ntt()
		for j := range w {
			w[j] = (mldsaQ - mulMod(c[j], t[j])) % mldsaQ
		}
		for r := range s.l {
			a := rejNTTPoly(rho, byte(r), byte(i))
			for j := range w {
				w[j] = (w[j] + mulMod(a[j], z[r][j])) % mldsaQ
			}
		}
		w.inverseNTT()
		hash.Write(s.packW1(&w, &h[i]))
	}
	computed := make([]byte, s.challenge)
	hash.Read(computed)
	return bytes.Equal(challenge, computed)
}

// unpackBits reads a polynomial's coefficients of the same number of bits: algorithm 18.
func unpackBits(b []byte, size int, set func(i int, v uint32)) {
	var buffer uint64
	filled, next := 0, 0
	for i := range mldsaN {
		for filled < size {
			buffer |= uint64(b[next]) << filled
			next++
			filled += 8
		}
		set(i, uint32(buffer)&(1<<size-1))
		buffer >>= size
		filled -= size
	}
}

// unpackHint is algorithm 21, HintBitUnpack.
func (s *mldsaSet) unpackHint(y []byte) (h [][mldsaN]bool, ok bool) {
	h = make([][mldsaN]bool, s.k)
	index := 0
	for i := range h {
		end := int(y[s.omega+i])
		if end < index || end > s.omega {
			return nil, false
		}
		for first := index; index < end; index++ {
			if index > first && y[index-1] >= y[index] {
				return nil, false
			}
			h[i][y[index]] = true
		}
	}
	for _, b := range y[index:s.omega] {
		if b != 0 {
			return nil, false
		}
	}
	return h, true
}

// sampleInBall is algorithm 29.
func (s *mldsaSet) sampleInBall(challenge []byte) (c mldsaPoly) {
	hash := sha3.NewSHAKE256()
	hash.Write(challenge)
	var signs [8]byte
	hash.Read(signs[:])
	for i := mldsaN - s.tau; i < mldsaN; i++ {
		var j [1]byte
		for hash.Read(j[:]); int(j[0]) > i; {
			hash.Read(j[:])
		}
		c[i] = c[j[0]]
		c[j[0]] = 1
		if n := i + s.tau - mldsaN; signs[n/8]>>(n%8)&1 == 1 {
			c[j[0]] = mldsaQ - 1
		}
	}
	return c
}

// rejNTTPoly is algorithm 30, for one element of the matrix: algorithm 32, ExpandA.
func rejNTTPoly(rho []byte, column, row byte) (a mldsaPoly) {
	hash := sha3.NewSHAKE128()
	hash.Write(rho)
	hash.Write([]byte{column, row})
	var block [168]byte // the rate of SHAKE128, a multiple of three
	for j := 0; j < mldsaN; {
		hash.Read(block[:])
		for b := block[:]; len(b) > 0 && j < mldsaN; b = b[3:] {
			if v := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2]&0x7f)<<16; v < mldsaQ {
				a[j] = v
				j++
			}
		}
	}
	return a
}

// packW1 applies the hint (algorithm 40, UseHint) and encodes the result (algorithm 28, w1Encode).
func (s *mldsaSet) packW1(w *mldsaPoly, h *[mldsaN]bool) []byte {
	m := (mldsaQ - 1) / (2 * s.gamma2)
	size := bits.Len32(uint32(m - 1))
	packed := make([]byte, 0, mldsaN/8*size)
	var buffer uint32
	filled := 0
	for i, r := range w {
		// Algorithm 36, Decompose.
		r0 := int32(r) % (2 * s.gamma2)
		if r0 > s.gamma2 {
			r0 -= 2 * s.gamma2
		}
		r1 := (int32(r) - r0) / (2 * s.gamma2)
		if int32(r)-r0 == mldsaQ-1 {
			r1, r0 = 0, r0-1
		}
		if h[i] && r0 > 0 {
			r1 = (r1 + 1) % m
		} else if h[i] {
			r1 = (r1 + m - 1) % m
		}
		buffer |= uint32(r1) << filled
		for filled += size; filled >= 8; filled -= 8 {
			packed = append(packed, byte(buffer))
			buffer >>= 8
		}
	}
	return packed
}

func mulMod(a, b uint32) uint32 { return uint32(uint64(a) * uint64(b) % mldsaQ) }

// mldsaZetas are the powers of 1753 in bit-reversed order: FIPS 204, appendix B.
var mldsaZetas = func() (zetas [mldsaN]uint32) {
	power := uint32(1)
	for i := range zetas {
		zetas[bits.Reverse8(uint8(i))] = power
		power = mulMod(power, 1753)
	}
	return zetas
}()

// ntt is algorithm 41.
func (w *mldsaPoly) ntt() {
	m := 0
	for length := mldsaN / 2; length >= 1; length /= 2 {
		for start := 0; start < mldsaN; start += 2 * length {
			m++
			for j := start; j < start+length; j++ {
				t := mulMod(mldsaZetas[m], w[j+length])
				w[j+length] = (w[j] + mldsaQ - t) % mldsaQ
				w[j] = (w[j] + t) % mldsaQ
			}
		}
	}
}

// inverseNTT is algorithm 42.
func (w *mldsaPoly) inverseNTT() {
	m := mldsaN
	for length := 1; length < mldsaN; length *= 2 {
		for start := 0; start < mldsaN; start += 2 * length {
			m--
			for j := start; j < start+length; j++ {
				t := w[j]
				w[j] = (t + w[j+length]) % mldsaQ
				w[j+length] = mulMod(mldsaQ-mldsaZetas[m], (t+mldsaQ-w[j+length])%mldsaQ)
			}
		}
	}
	for j := range w {
		w[j] = mulMod(w[j], 8347681) // 1/256
	}
}
