package mailbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/bouncemeter/bouncemeter/internal/durable"
)

// deliveries counts them within the process: with time, process and host it
// makes a unique name.
var deliveries atomic.Uint64

// Deliver puts what r yields as a message into the Maildir dir, which is made
// where it is missing. When it returns nil the message is on disk, and will be
// after a power failure, and n is its size there. Of longer messages only the first
// limit bytes are kept; r is read to its end all the same.
func Deliver(dir string, r io.Reader, limit int64) (n int64, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("deliver into Maildir %s: %w", dir, err)
		}
	}()
	for _, sub := range []string{"tmp", "new", "cur"} {
		if err := durable.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return 0, err
		}
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	now := time.Now()
	name := fmt.Sprintf("%d.M%06dP%dQ%s.%s", now.Unix(), now.Nanosecond()/1000, os.Getpid(), strconv.FormatUint(deliveries.Add(1), 10),
		strings.NewReplacer("/", `\057`, ":", `\072`).Replace(host))
	tmp := filepath.Join(dir, "tmp", name)
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	n, err = io.Copy(f, io.LimitReader(r, limit))
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, errors.Join(err, os.Remove(tmp))
	}
	if err := os.Rename(tmp, filepath.Join(dir, "new", name)); err != nil {
		return 0, errors.Join(err, os.Remove(tmp))
	}
	return n, durable.SyncFolder(filepath.Join(dir, "new"))
}
