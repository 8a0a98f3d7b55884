package config

import (
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
