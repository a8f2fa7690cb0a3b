package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func franzGo(bootstrap, topic string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	seeds := kgo.SeedBrokers(bootstrap)
	client, err := kgo.NewClient(seeds, kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	if _, err := admin.CreateTopic(ctx, partitions, 1, map[string]*string{"retention.ms": kadm.StringPtr("-1")}, topic); err != nil {
		return err
	}
	for i := range records {
		record := kgo.KeyStringRecord(key(i), value(i))
		record.Headers = []kgo.RecordHeader{{Key: "h", Value: []byte("1")}, {Key: "h", Value: nil}}
		client.Produce(ctx, record, func(_ *kgo.Record, failed error) { err = errors.Join(err, failed) })
	}
	if flushed := client.Flush(ctx); flushed != nil || err != nil {
		return errors.Join(flushed, err)
	}
	if err := franzTransactions(ctx, bootstrap, topic); err != nil {
		return fmt.Errorf("transactions: %w", err)
	}
	for _, protocol := range []string{"classic", "consumer"} {
		if err := franzGroup(ctx, bootstrap, topic, protocol); err != nil {
			return fmt.Errorf("%s group: %w", protocol, err)
		}
	}
	return franzAdmin(ctx, admin, topic)
}

// One transaction is committed, one aborted, one copies with the offsets of its group.
func franzTransactions(ctx context.Context, bootstrap, topic string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.TransactionalID(topic+"-id"), kgo.DefaultProduceTopic(topic))
	if err != nil {
		return err
	}
	defer client.Close()
	for round, outcome := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} {
		if err := client.BeginTransaction(); err != nil {
			return err
		}
		for i := range 10 {
			text := fmt.Sprintf("transaction %d %d", round, i)
			if err := client.ProduceSync(ctx, kgo.StringRecord(text)).FirstErr(); err != nil {
				return err
			}
		}
		if err := client.EndTransaction(ctx, outcome); err != nil {
			return err
		}
	}
	return nil
}

func franzGroup(ctx context.Context, bootstrap, topic, protocol string) error {
	options := []kgo.Opt{
		kgo.SeedBrokers(bootstrap), kgo.ConsumerGroup(topic + "-" + protocol), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	}
	if protocol == "consumer" {
		options = append(options, kgo.WithContext(context.WithValue(ctx, "opt_in_kafka_next_gen_balancer_beta", true)))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return err
	}
	defer client.Close()
	values := seen{}
	for len(values) < records+20 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		fetches.EachRecord(func(record *kgo.Record) { values[string(record.Value)]++ })
	}
	if err := values.exactly(records + 20); err != nil {
		return err
	}
	return client.CommitUncommittedOffsets(ctx)
}

func franzAdmin(ctx context.Context, admin *kadm.Client, topic string) error {
	lags, err := admin.Lag(ctx, topic+"-classic")
	if err != nil {
		return err
	}
	if lag := lags[topic+"-classic"].Lag.Total(); lag > 8 {
		// Control records lie behind the last record read.
		return fmt.Errorf("lag is %d", lag)
	}
	if _, err := admin.DescribeBrokerConfigs(ctx, 1); err != nil {
		return err
	}
	if _, err := admin.DescribeAllLogDirs(ctx, nil); err != nil {
		return err
	}
	if _, err := admin.ListEndOffsets(ctx, topic); err != nil {
		return err
	}
	if _, err := admin.CreateTopic(ctx, 1, 1, nil, topic); !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("creating the topic again: %v", err)
	}
	deleted, err := admin.DeleteGroups(ctx, topic+"-classic")
	if err != nil {
		return err
	}
	return deleted.Error()
}
