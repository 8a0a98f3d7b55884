//go:build !unix

package tail

import "os"

// inode returns 0: there are no inode numbers here, and they are only a hint.
func inode(os.FileInfo) uint64 { return 0 }
