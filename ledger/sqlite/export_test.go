package sqlite

// WithChunk returns options that make a roll-up work in transactions of about
// so many rows.
func WithChunk(rows int64) Options { return Options{chunk: rows} }
