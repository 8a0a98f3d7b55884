package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Codecs of record batches.
const (
	codecNone = iota
	codecGzip
	codecSnappy
	codecLZ4
	codecZstd
)

// errUnpack means that compressed records cannot be decompressed.
var errUnpack = errors.New("its records cannot be decompressed")

// unpacker decompresses records. Its memory is kept from batch to batch.
type unpacker struct {
	limit int           // of decompressed bytes
	zstd  *zstd.Decoder // safe for concurrent use: shared by all
	input bytes.Reader
	gzip  gzip.Reader
}

// unpack appends the decompressed form of src to dst. dst is returned as it was
// if there is an error.
func (u *unpacker) unpack(dst []byte, codec int16, src []byte) ([]byte, error) {
	var out []byte
	var err error
	switch codec {
	case codecNone:
		return append(dst, src...), nil
	case codecGzip:
		out, err = u.ungzip(dst, src)
	case codecSnappy:
		out, err = u.unsnappy(dst, src)
	case codecLZ4:
		out, err = u.unlz4(dst, src)
	case codecZstd:
		out, err = u.zstd.DecodeAll(src, dst)
		if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
			err = errTooLarge
		}
	default:
		err = fmt.Errorf("codec %d is unknown", codec)
	}
	if err == nil && len(out)-len(dst) > u.limit {
		err = errTooLarge
	}
	if errors.Is(err, errTooLarge) {
		return dst, err
	}
	if err != nil {
		return dst, fmt.Errorf("%w: %w", errUnpack, err)
	}
	return out, nil
}

func (u *unpacker) ungzip(dst, src []byte) ([]byte, error) {
	u.input.Reset(src)
	if err := u.gzip.Reset(&u.input); err != nil {
		return nil, err
	}
	out := dst
	for {
		if len(out)-len(dst) > u.limit {
			return nil, errTooLarge
		}
		out = slices.Grow(out, 4<<10)
		n, err := u.gzip.Read(out[len(out):cap(out)])
		out = out[:len(out)+n]
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// xerial begins what Java's snappy library writes: a header and blocks, each
// with its length. Others write one block alone.
var xerial = []byte("\x82SNAPPY\x00")

const xerialHeaderBytes = 16 // with two version numbers

func (u *unpacker) unsnappy(dst, src []byte) ([]byte, error) {
	if !bytes.HasPrefix(src, xerial) {
		return u.snappyBlock(dst, src, u.limit)
	}
	if len(src) < xerialHeaderBytes {
		return nil, io.ErrUnexpectedEOF
	}
	out := dst
	for src = src[xerialHeaderBytes:]; len(src) > 0; {
		if len(src) < 4 {
			return nil, io.ErrUnexpectedEOF
		}
		n := binary.BigEndian.Uint32(src)
		if src = src[4:]; uint64(n) > uint64(len(src)) {
			return nil, io.ErrUnexpectedEOF
		}
		var err error
		if out, err = u.snappyBlock(out, src[:n], u.limit-(len(out)-len(dst))); err != nil {
			return nil, err
		}
		src = src[n:]
	}
	return out, nil
}

func (u *unpacker) snappyBlock(dst, src []byte, limit int) ([]byte, error) {
	n, err := s2.DecodedLen(src)
	if err != nil {
		return nil, err
	}
	if n > limit {
		return nil, errTooLarge
	}
	dst = slices.Grow(dst, n)
	if _, err := s2.Decode(dst[len(dst):len(dst)+n], src); err != nil {
		return nil, err
	}
	return dst[:len(dst)+n], nil
}

// Parts of the LZ4 frame format, version 1.6.
const (
	lz4Magic           = 0x184D2204
	lz4Version         = 0x40 // in bits 6 and 7 of the flags
	lz4VersionMask     = 0xC0
	lz4Independent     = 0x20 // blocks do not refer to those before
	lz4BlockChecksum   = 0x10
	lz4ContentSize     = 0x08
	lz4ContentChecksum = 0x04
	lz4Dictionary      = 0x01
	lz4Stored          = 1 << 31 // in a block's size: it is not compressed
	lz4Window          = 64 << 10
)

// unlz4 reads frames. It leaves their checksums alone: that of the batch covers
// the same bytes.
func (u *unpacker) unlz4(dst, src []byte) ([]byte, error) {
	out := dst
	for len(src) > 0 {
		if len(src) < 7 || binary.LittleEndian.Uint32(src) != lz4Magic {
			return nil, errors.New("no LZ4 frame")
		}
		flags, blockCode := src[4], src[5]>>4&7
		if flags&lz4VersionMask != lz4Version || flags&lz4Dictionary != 0 || blockCode < 4 {
			return nil, errors.New("an LZ4 frame of an unknown kind")
		}
		blockBytes := 1 << (8 + 2*blockCode) // 64 KiB to 4 MiB
		skip := 7
		if flags&lz4ContentSize != 0 {
			skip += 8
		}
		trailer := 0 // of each block
		if flags&lz4BlockChecksum != 0 {
			trailer = 4
		}
		if len(src) < skip {
			return nil, io.ErrUnexpectedEOF
		}
		src = src[skip:]
		frame := len(out) // where it begins
		for {
			if len(src) < 4 {
				return nil, io.ErrUnexpectedEOF
			}
			size := binary.LittleEndian.Uint32(src)
			src = src[4:]
			if size == 0 {
				break
			}
			n := int(size &^ lz4Stored)
			if n > blockBytes || n+trailer > len(src) {
				return nil, io.ErrUnexpectedEOF
			}
			if size&lz4Stored != 0 {
				out = append(out, src[:n]...)
			} else {
				out = slices.Grow(out, blockBytes)
				var window []byte
				if flags&lz4Independent == 0 {
					window = out[max(frame, len(out)-lz4Window):]
				}
				m, err := lz4.UncompressBlockWithDict(src[:n], out[len(out):len(out)+blockBytes], window)
				if err != nil {
					return nil, err
				}
				out = out[:len(out)+m]
			}
			if len(out)-len(dst) > u.limit {
				return nil, errTooLarge
			}
			src = src[n+trailer:]
		}
		if flags&lz4ContentChecksum != 0 {
			if len(src) < 4 {
				return nil, io.ErrUnexpectedEOF
			}
			src = src[4:]
		}
	}
	return out, nil
}
