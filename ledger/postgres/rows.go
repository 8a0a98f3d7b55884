package postgres

import (
	"encoding/binary"

	"github.com/jackc/pgx/v5"
)

// each yields the columns of every row as the server sends them, in its binary
// format: to scan a million rows costs more than to count them. They are valid
// during the call only.
func each(rows pgx.Rows, yield func(v [][]byte) error) error {
	defer rows.Close()
	for rows.Next() {
		if err := yield(rows.RawValues()); err != nil {
			return err
		}
	}
	return rows.Err()
}

// number decodes an integer or bigint.
func number(b []byte) int64 {
	switch len(b) {
	case 8:
		return int64(binary.BigEndian.Uint64(b))
	case 4:
		return int64(int32(binary.BigEndian.Uint32(b)))
	}
	return 0
}
