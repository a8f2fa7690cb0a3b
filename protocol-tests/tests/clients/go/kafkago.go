package main

import (
	"context"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
)

func kafkaGo(bootstrap, topic string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	client := &kafka.Client{Addr: kafka.TCP(bootstrap)}
	created, err := client.CreateTopics(ctx, &kafka.CreateTopicsRequest{
		Topics: []kafka.TopicConfig{{Topic: topic, NumPartitions: partitions, ReplicationFactor: 1}}})
	if err != nil {
		return err
	}
	if err := created.Errors[topic]; err != nil {
		return err
	}
	writer := &kafka.Writer{Addr: kafka.TCP(bootstrap), Topic: topic, Balancer: &kafka.Hash{}, RequiredAcks: kafka.RequireAll,
		BatchTimeout: 10 * time.Millisecond, Compression: kafka.Lz4}
	messages := make([]kafka.Message, records)
	for i := range messages {
		messages[i] = kafka.Message{Key: []byte(key(i)), Value: []byte(value(i)), Headers: []kafka.Header{{Key: "h", Value: []byte("1")}}}
	}
	if err := writer.WriteMessages(ctx, messages...); err != nil {
		return err
	}
	if err := writer.Close(); err != nil {
		return err
	}
	reader := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{bootstrap}, GroupID: topic + "-group", Topic: topic,
		MinBytes: 1, MaxBytes: 10 << 20, StartOffset: kafka.FirstOffset})
	values := seen{}
	for len(values) < records {
		message, err := reader.FetchMessage(ctx)
		if err != nil {
			return err
		}
		values[string(message.Value)]++
		if len(values) == records {
			if err := reader.CommitMessages(ctx, message); err != nil {
				return err
			}
		}
	}
	if err := reader.Close(); err != nil {
		return err
	}
	if err := values.exactly(records); err != nil {
		return err
	}
	// By time: the offset of the first record at or behind the beginning is 0.
	connection, err := kafka.DialLeader(ctx, "tcp", bootstrap, topic, 0)
	if err != nil {
		return err
	}
	defer connection.Close()
	first, err := connection.ReadOffset(time.Unix(1, 0))
	if err != nil {
		return err
	}
	if first != 0 {
		return fmt.Errorf("the first offset by time is %d", first)
	}
	return nil
}
