package config

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/bouncemeter/bouncemeter/internal/kafkaclient"
	"github.com/bouncemeter/bouncemeter/sources/dialect"
)

// Messages is the dialect of whole mails: bounces, complaints, answers.
const Messages = "message"

// Dialects lists the words that a source's dialect may be.
func Dialects() []string { return append(dialect.Names(), MappedJSON, MappedCSV, Messages) }

// Cluster is how the source's Kafka cluster is reached.
func (s *Source) Cluster() kafkaclient.Config {
	c := kafkaclient.Config{
		Brokers: s.Brokers,
		TLS: kafkaclient.TLS{
			Enabled: s.TLS.Enabled, CAFile: s.TLS.CAFile, CertFile: s.TLS.CertFile, KeyFile: s.TLS.KeyFile, ServerName: s.TLS.ServerName,
		},
		SASL: kafkaclient.SASL{Mechanism: s.SASL.Mechanism, User: s.SASL.User, PasswordFile: s.SASL.PasswordFile},
	}
	if c.SASL.Mechanism == "none" {
		c.SASL.Mechanism = ""
	}
	return c
}

// mostPartitions is more than a topic has.
const mostPartitions = 1 << 16

// PartitionIDs are the numbers of Partitions; none for all.
func (s *Source) PartitionIDs() (ids []int32, err error) {
	if s.Partitions == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(s.Partitions, ",") {
		from, to, ranges := strings.Cut(strings.TrimSpace(part), "-")
		if !ranges {
			to = from
		}
		first, err1 := strconv.ParseUint(from, 10, 16)
		last, err2 := strconv.ParseUint(to, 10, 16)
		if err1 != nil || err2 != nil || first > last || len(ids)+int(last-first) >= mostPartitions {
			return nil, fmt.Errorf("%q are no numbers of partitions", part)
		}
		for id := first; id <= last; id++ {
			ids = append(ids, int32(id))
		}
	}
	return ids, nil
}
