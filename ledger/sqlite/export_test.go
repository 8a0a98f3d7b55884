package sqlite

// WithChunk returns options that make a roll-up work in transactions of about
// so many rows.
func WithChunk(rows int64) Options { return Options{chunk: rows} }

// WithoutSync returns o for tests that open many ledgers and survive no power
// loss.
func WithoutSync(o Options) Options {
	o.synchronous = "OFF"
	return o
}
