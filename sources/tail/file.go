package tail

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

const (
	// maxZstdWindow bounds what a zstd frame may ask for; zstd -19 and below
	// need no more.
	maxZstdWindow = 8 << 20
	// maxXzDict bounds the dictionary of an xz file; xz -9 asks for 64 MiB.
	maxXzDict = 64 << 20
	// magicBytes is enough to know a compressed file, and the dictionary of xz.
	magicBytes = 64
)

var (
	// errReplaced means that what was read of the file is not there any more:
	// it was truncated or overwritten.
	errReplaced = errors.New("the file was truncated or overwritten")
	// errDamaged is wrapped by errors of decompression.
	errDamaged = errors.New("damaged or incomplete compressed file")
)

// file is one open file as a sequence of decoded bytes.
type file struct {
	f    *os.File
	path string      // as it was opened
	info os.FileInfo // as of the last look
	dec  io.Reader   // what can only be read in order, else nil
	stop func()      // releases dec
	err  error       // of dec, to be returned once all before it was read
	// eager makes read return what there is, without filling the buffer.
	eager bool
	pipe  *pipe        // below dec, if reads may block for long
	raw   atomic.Int64 // bytes read, for progress
}

// openFile opens a regular file and finds out whether it is compressed. With
// plain it does not look: live files are never compressed.
func openFile(path string, plain bool) (*file, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%s is a folder; name the files in it, such as %s", path, filepath.Join(path, "*.log"))
	}
	if !info.Mode().IsRegular() { // to open a pipe would block
		return nil, fmt.Errorf("%s is not a regular file (%s)", path, info.Mode().Type())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r := &file{f: f, path: path, stop: func() {}}
	err = r.look()
	if err == nil && !plain {
		var magic [magicBytes]byte
		var n int
		if n, err = f.ReadAt(magic[:], 0); err == nil || err == io.EOF {
			err = nil
			r.dec, r.stop, r.err = decoder(magic[:n], &counter{r: f, n: &r.raw})
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return r, nil
}

// openStream reads what is no regular file, such as standard input: in order,
// and not before it is asked to.
func openStream(f *os.File, path string) (*file, error) {
	r := &file{f: f, path: path, stop: func() {}, eager: true, pipe: newPipe(f)}
	r.dec = &sniffer{file: r}
	return r, r.look()
}

// sniffer becomes the right decoder with the first read.
type sniffer struct{ file *file }

func (s *sniffer) Read(p []byte) (int, error) {
	r := s.file
	b := bufio.NewReaderSize(&counter{r: r.pipe, n: &r.raw}, 64<<10)
	magic, err := b.Peek(magicBytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	dec, stop, err := decoder(magic, b)
	if err != nil {
		return 0, err
	}
	plain := dec == nil
	if !plain {
		b = bufio.NewReaderSize(dec, firstLineBytes)
	}
	r.dec, r.stop, r.eager = lines(b), stop, plain
	return r.dec.Read(p)
}

// splitDocument makes a file that was just opened give the lines of a document, if
// it is one.
func (r *file) splitDocument() {
	if r.dec != nil {
		r.dec = lines(bufio.NewReaderSize(r.dec, firstLineBytes))
		return
	}
	beginning := io.NewSectionReader(r.f, 0, firstLineBytes)
	if _, ok := lines(bufio.NewReaderSize(beginning, firstLineBytes)).(*document); ok {
		r.dec = lines(bufio.NewReaderSize(&counter{r: r.f, n: &r.raw}, firstLineBytes))
	}
}

// pipe reads in a goroutine of its own, so that a read that blocks can be given
// up. The goroutine ends at the end of the input or with the first read that
// returns after interrupt; a read that never returns keeps it until the
// process ends.
type pipe struct {
	r           io.Reader
	start, stop sync.Once
	pieces      chan piece
	interrupted chan struct{} // closed by interrupt
	rest        piece
}

// piece is the result of one Read.
type piece struct {
	p   []byte
	err error
}

func newPipe(r io.Reader) *pipe {
	return &pipe{r: r, pieces: make(chan piece), interrupted: make(chan struct{})}
}

// interrupt makes this and all later reads fail.
func (p *pipe) interrupt() { p.stop.Do(func() { close(p.interrupted) }) }

func (p *pipe) Read(b []byte) (int, error) {
	p.start.Do(func() { go p.pump() })
	for len(p.rest.p) == 0 {
		if p.rest.err != nil {
			return 0, p.rest.err
		}
		select {
		case p.rest = <-p.pieces:
		case <-p.interrupted:
			p.rest.err = errors.New("interrupted")
		}
	}
	n := copy(b, p.rest.p)
	p.rest.p = p.rest.p[n:]
	return n, nil
}

// pump reads ahead into the one of two buffers that Read is not using.
func (p *pipe) pump() {
	buf, other := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := p.r.Read(buf)
		select {
		case p.pieces <- piece{buf[:n], err}:
		case <-p.interrupted:
			return
		}
		if err != nil {
			return
		}
		buf, other = other, buf
	}
}

// decoder returns a reader of the decompressed content of r if magic, its first
// bytes, is that of a compressed file, else nil. Memory is bounded whatever the
// file asks for.
func decoder(magic []byte, r io.Reader) (dec io.Reader, stop func(), err error) {
	stop = func() {}
	switch {
	case bytes.HasPrefix(magic, []byte("\x1f\x8b\x08")):
		dec, err = gzip.NewReader(bufio.NewReaderSize(r, 64<<10))
	case bytes.HasPrefix(magic, []byte("\x28\xb5\x2f\xfd")),
		len(magic) >= 4 && magic[0]&0xf0 == 0x50 && string(magic[1:4]) == "\x2a\x4d\x18": // a skippable frame
		var z *zstd.Decoder
		z, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err == nil {
			dec, stop = z, z.Close
		}
	case len(magic) >= 10 && bytes.HasPrefix(magic, []byte("BZh")) && magic[3] >= '1' && magic[3] <= '9' &&
		(string(magic[4:10]) == "1AY&SY" || string(magic[4:10]) == "\x17\x72\x45\x38\x50\x90"):
		dec = bzip2.NewReader(bufio.NewReaderSize(r, 64<<10))
	case bytes.HasPrefix(magic, []byte("\xfd7zXZ\x00")):
		if dict := xzDict(magic); dict > maxXzDict {
			err = fmt.Errorf("its dictionary is %d MiB, more than %d; recompress it with xz -9 or less", dict>>20, maxXzDict>>20)
			break
		}
		dec, err = xz.NewReader(bufio.NewReaderSize(r, 64<<10))
	default:
		return nil, stop, nil
	}
	if err != nil {
		dec = strings.NewReader("") // never plain text
	}
	return dec, stop, err
}

// xzDict returns the dictionary size that the first block of an xz file asks
// for, or 0 if it cannot be seen (xz file format 1.2.1, sections 3.1 and
// 5.3.1). Later blocks of a file come from the same run of the compressor.
func xzDict(b []byte) int64 {
	const header = 12 // the stream header; then header size, flags, optional sizes, filters
	if len(b) < header+2 || b[header] == 0 {
		return 0
	}
	flags, i := b[header+1], header+2
	for _, bit := range []byte{0x40, 0x80} { // compressed and uncompressed size, as varints
		if flags&bit == 0 {
			continue
		}
		for i < len(b) && b[i]&0x80 != 0 {
			i++
		}
		i++
	}
	if i+2 >= len(b) || b[i] != 0x21 || b[i+1] != 1 { // LZMA2 with one byte of properties
		return 0
	}
	bits := int64(b[i+2] & 0x3f)
	return (2 | bits&1) << (bits/2 + 11)
}

// counter counts what is read of a file, for progress.
type counter struct {
	r io.Reader
	n *atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// read reads the decoded bytes from off on. A compressed file can only be read
// in order, so off must be where the last read ended. At the end it returns
// 0 and io.EOF; of a plain file there may be more later.
func (r *file) read(p []byte, off int64) (n int, err error) {
	if r.dec == nil {
		n, err = r.f.ReadAt(p, off)
		if n > 0 {
			r.raw.Store(off + int64(n))
			return n, nil
		}
		return 0, err
	}
	for n < len(p) && r.err == nil { // decoders give small pieces
		var k int
		k, r.err = r.dec.Read(p[n:])
		n += k
		if r.eager && n > 0 {
			break
		}
	}
	switch {
	case n > 0:
		return n, nil
	case errors.Is(r.err, io.EOF):
		return 0, io.EOF
	case r.eager:
		return 0, r.err
	default:
		return 0, fmt.Errorf("read %s: %w: %w", r.path, errDamaged, r.err)
	}
}

// holds reports whether the bytes from off on are want, of which there are at
// most tailBytes. Of a compressed file it is taken for granted: nobody appends
// to those.
func (r *file) holds(want []byte, off int64) (bool, error) {
	if r.dec != nil || len(want) == 0 {
		return true, nil
	}
	var now [tailBytes]byte
	n, err := r.f.ReadAt(now[:len(want)], off)
	if err != nil && err != io.EOF {
		return false, err
	}
	return bytes.Equal(now[:n], want), nil
}

// look refreshes info.
func (r *file) look() error {
	info, err := r.f.Stat()
	if err == nil {
		r.info = info
	}
	return err
}

// waiting returns how many bytes of the file are known to follow off; of a
// compressed file in compressed bytes.
func (r *file) waiting(off int64) int64 {
	if r.dec != nil {
		off = r.raw.Load()
	}
	return max(0, r.info.Size()-off)
}

func (r *file) close() error {
	r.stop()
	if r.pipe != nil {
		r.pipe.interrupt()
	}
	return r.f.Close()
}
