package kafkatest

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"testing"
)

func TestServerStartsAgain(t *testing.T) {
	s := Start(t)
	s.Stop(t)
	if _, err := net.Dial("tcp", s.Addr); err == nil {
		t.Fatal("it has not stopped")
	}
	s.Start(t)
	ca, err := os.ReadFile(s.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	c, err := tls.Dial("tcp", s.SecureAddr, &tls.Config{RootCAs: pool})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
