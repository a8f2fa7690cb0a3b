package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

func saramaConfig() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Producer.Return.Successes = true
	config.Producer.Idempotent = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Compression = sarama.CompressionZSTD
	config.Net.MaxOpenRequests = 1
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.IsolationLevel = sarama.ReadCommitted
	config.Consumer.Offsets.AutoCommit.Enable = false
	return config
}

func saramaClient(bootstrap, topic string) error {
	admin, err := sarama.NewClusterAdmin([]string{bootstrap}, saramaConfig())
	if err != nil {
		return err
	}
	defer admin.Close()
	if err := admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1}, false); err != nil {
		return err
	}
	producer, err := sarama.NewSyncProducer([]string{bootstrap}, saramaConfig())
	if err != nil {
		return err
	}
	defer producer.Close()
	for i := range records {
		message := &sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder(key(i)), Value: sarama.StringEncoder(value(i)),
			Headers: []sarama.RecordHeader{{Key: []byte("h"), Value: []byte("1")}}}
		if _, _, err := producer.SendMessage(message); err != nil {
			return err
		}
	}
	if err := saramaTransactions(bootstrap, topic); err != nil {
		return fmt.Errorf("transactions: %w", err)
	}
	return saramaGroup(bootstrap, topic, admin)
}

func saramaTransactions(bootstrap, topic string) error {
	config := saramaConfig()
	config.Producer.Transaction.ID = topic + "-id"
	producer, err := sarama.NewSyncProducer([]string{bootstrap}, config)
	if err != nil {
		return err
	}
	defer producer.Close()
	for round := range 3 {
		if err := producer.BeginTxn(); err != nil {
			return err
		}
		for i := range 10 {
			text := fmt.Sprintf("transaction %d %d", round, i)
			if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(text)}); err != nil {
				return err
			}
		}
		end := producer.CommitTxn
		if round == 1 {
			end = producer.AbortTxn
		}
		if err := end(); err != nil {
			return err
		}
	}
	return nil
}

type saramaReader struct {
	values seen
	done   context.CancelFunc
}

func (saramaReader) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (saramaReader) Cleanup(sarama.ConsumerGroupSession) error { return nil }

// One claim after another adds to the values, since partitions are read by goroutines of their own.
var adding = make(chan struct{}, 1)

func (r saramaReader) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			adding <- struct{}{}
			r.values[string(message.Value)]++
			session.MarkMessage(message, "")
			if len(r.values) == records+20 {
				session.Commit()
				r.done()
			}
			<-adding
		case <-session.Context().Done():
			return nil
		}
	}
}

func saramaGroup(bootstrap, topic string, admin sarama.ClusterAdmin) error {
	name := topic + "-group"
	group, err := sarama.NewConsumerGroup([]string{bootstrap}, name, saramaConfig())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	reader := saramaReader{values: seen{}, done: cancel}
	for ctx.Err() == nil {
		if err := group.Consume(ctx, []string{topic}, reader); err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	if err := group.Close(); err != nil {
		return err
	}
	if err := reader.values.exactly(records + 20); err != nil {
		return err
	}
	offsets, err := admin.ListConsumerGroupOffsets(name, map[string][]int32{topic: {0, 1, 2}})
	if err != nil {
		return err
	}
	for partition := range int32(partitions) {
		if block := offsets.GetBlock(topic, partition); block == nil || block.Offset <= 0 {
			return fmt.Errorf("partition %d has no committed offset", partition)
		}
	}
	return admin.DeleteConsumerGroup(name)
}
