package app

// Behind tells how much is known to wait to be read, in bytes or records, and
// whether every lane has been read and committed at least once.
func (a *App) Behind() (waiting int64, begun bool) {
	lanes := a.daemon.Status()
	begun = len(lanes) > 0
	for _, l := range lanes {
		waiting += l.Lag
		begun = begun && !l.Read.IsZero()
	}
	return waiting, begun
}
