package postgres

// WithChunk returns o with roll-ups in transactions of few rows.
func WithChunk(o Options, rows int64) Options {
	o.chunk = rows
	return o
}
