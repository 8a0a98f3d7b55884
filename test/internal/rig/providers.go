package rig

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Providers send events of a failure each by HTTP, until they are answered with
// 200, and some of them twice.
type Providers struct {
	all  sync.WaitGroup
	sent [4]int64 // by provider; those are one goroutine each
}

// StartProviders starts them. They stop once ctx is done and the event under way
// has been taken.
func StartProviders(ctx context.Context, url string, seed uint64) *Providers {
	p := new(Providers)
	client := &http.Client{Timeout: 5 * time.Second}
	for i := range p.sent {
		again := rand.New(rand.NewPCG(seed, uint64(3+i)))
		p.all.Go(func() {
			for ctx.Err() == nil {
				event := postalEvent(i, p.sent[i])
				for !post(client, url, event) {
					<-time.After(20 * time.Millisecond)
				}
				p.sent[i]++
				if again.IntN(10) == 0 {
					post(client, url, event)
				}
			}
		})
	}
	return p
}

// Sent waits until they have stopped and returns how many events were taken.
func (p *Providers) Sent() (total int64) {
	p.all.Wait()
	for _, n := range p.sent {
		total += n
	}
	return total
}

// postalEvent is a failure as Postal tells it; its uuid is unique.
func postalEvent(provider int, number int64) string {
	return fmt.Sprintf(`{"event":"MessageDeliveryFailed","timestamp":%d.5,"uuid":"%08d-0000-4000-8000-%012d","payload":{`+
		`"message":{"id":%d,"direction":"outgoing","message_id":"%d@shop.example","to":"ann%d@example.com","from":"news@shop.example"},`+
		`"status":"HardFail","details":"`+strings.Repeat("failed ", 150)+`","output":"550 5.1.1 no such user","time":0.2}}`,
		time.Now().Unix(), provider, number, number, number, number)
}

func post(client *http.Client, url, body string) bool {
	r, err := http.NewRequest(http.MethodPost, url, bytes.NewReader([]byte(body)))
	if err != nil {
		return false
	}
	r.Header.Set("Authorization", "Bearer secret")
	answer, err := client.Do(r)
	if err != nil {
		return false // killed before the answer, or not there yet
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode == http.StatusOK
}
