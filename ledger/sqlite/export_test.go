package sqlite

import "context"

// WithChunk returns options that make a roll-up work in transactions of about
// so many rows.
func WithChunk(rows int64) Options { return Options{chunk: rows} }

// WithoutSync returns o for tests that open many ledgers and survive no power
// loss.
func WithoutSync(o Options) Options {
	o.synchronous = "OFF"
	return o
}

// Check reads the whole ledger for damage, while others use it. It finds pages
// that are broken, not numbers that are plausible and wrong.
func (l *Ledger) Check(ctx context.Context) error {
	return l.read(ctx, "check", func(c *conn) error {
		return l.quickCheck(ctx, c, "PRAGMA quick_check(1)")
	})
}
