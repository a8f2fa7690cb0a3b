package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
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
	if err := franzShareGroup(ctx, client, bootstrap, topic); err != nil {
		return fmt.Errorf("share group: %w", err)
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

// A share group of two members: every seventh record is given back once, and each is accepted once.
func franzShareGroup(ctx context.Context, client *kgo.Client, bootstrap, topic string) error {
	group := topic + "-share"
	request := kmsg.NewPtrIncrementalAlterConfigsRequest()
	resource := kmsg.NewIncrementalAlterConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeGroupConfig, group
	for key, value := range map[string]string{"share.auto.offset.reset": "earliest", "share.isolation.level": "read_committed"} {
		config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		config.Name, config.Value = key, &value
		resource.Configs = append(resource.Configs, config)
	}
	request.Resources = append(request.Resources, resource)
	if _, err := request.RequestWith(ctx, client); err != nil {
		return err
	}
	accepted := seen{}
	var members []*kgo.Client
	for range 2 {
		member, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ShareGroup(group), kgo.ConsumeTopics(topic))
		if err != nil {
			return err
		}
		defer member.Close()
		members = append(members, member)
	}
	for turn := 0; len(accepted) < records+20; turn++ {
		polling, done := context.WithTimeout(ctx, 200*time.Millisecond)
		fetches := members[turn%2].PollFetches(polling)
		done()
		if ctx.Err() != nil {
			return fmt.Errorf("%d of %d records: %w", len(accepted), records+20, ctx.Err())
		}
		fetches.EachRecord(func(record *kgo.Record) {
			if record.Offset%7 == 0 && record.DeliveryCount() == 1 {
				record.Ack(kgo.AckRelease)
				return
			}
			record.Ack(kgo.AckAccept)
			accepted[string(record.Value)]++
		})
		if err := members[turn%2].FlushAcks(ctx); err != nil {
			return err
		}
	}
	return accepted.exactly(records + 20)
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
