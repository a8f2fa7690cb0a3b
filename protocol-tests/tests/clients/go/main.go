// The Go clients: what applications do with each of them.
//
//	clients franz-go|sarama|kafka-go BOOTSTRAP TOPIC
package main

import (
	"fmt"
	"os"
)

const (
	records    = 600
	partitions = 3
)

func main() {
	scenarios := map[string]func(bootstrap, topic string) error{
		"franz-go": franzGo,
		"sarama":   saramaClient,
		"kafka-go": kafkaGo,
	}
	if len(os.Args) != 4 || scenarios[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: clients franz-go|sarama|kafka-go BOOTSTRAP TOPIC")
		os.Exit(2)
	}
	if err := scenarios[os.Args[1]](os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("all ok")
}

func key(i int) string   { return fmt.Sprintf("key-%d", i%50) }
func value(i int) string { return fmt.Sprintf("value %d", i) }

// seen counts values; each must come exactly once.
type seen map[string]int

func (s seen) exactly(count int) error {
	for value, times := range s {
		if times != 1 {
			return fmt.Errorf("%q came %d times", value, times)
		}
	}
	if len(s) != count {
		return fmt.Errorf("%d values instead of %d", len(s), count)
	}
	return nil
}
