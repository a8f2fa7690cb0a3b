import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.serialization.*;

/**
 * Reads, transforms and writes exactly once; may be killed at any time and started again. A copy pauses behind each
 * transaction as long as it is told.
 *
 * CopyJob BOOTSTRAP fill INPUT OUTPUT COUNT | copy INPUT OUTPUT PACE_MS | check INPUT OUTPUT
 */
public class CopyJob {
    static final int PARTITIONS = 4;
    static String bootstrap;

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        switch (args[1]) {
            case "fill" -> fill(args[2], args[3], Integer.parseInt(args[4]));
            case "copy" -> copy(args[2], args[3], Long.parseLong(args[4]));
            case "check" -> check(args[2], args[3]);
            default -> throw new IllegalArgumentException(args[1]);
        }
    }

    static Map<String, Object> base(Map<String, Object> more) {
        Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "reconnect.backoff.max.ms", 200));
        config.putAll(more);
        return config;
    }

    static KafkaProducer<String, String> producer(Map<String, Object> more) {
        return new KafkaProducer<>(base(more), new StringSerializer(), new StringSerializer());
    }

    static KafkaConsumer<String, String> consumer(Map<String, Object> more) {
        return new KafkaConsumer<>(base(more), new StringDeserializer(), new StringDeserializer());
    }

    static void fill(String input, String output, int count) throws Exception {
        try (Admin admin = Admin.create(base(Map.of()))) {
            admin.createTopics(List.of(new NewTopic(input, PARTITIONS, (short) 1), new NewTopic(output, PARTITIONS, (short) 1))).all().get();
        }
        try (var producer = producer(Map.of())) {
            for (int i = 0; i < count; i++) producer.send(new ProducerRecord<>(input, "k" + i % 100, "value " + i));
        }
    }

    static void copy(String input, String output, long paceMs) throws Exception {
        var consumer = consumer(Map.of("group.id", input + "-copy", "group.instance.id", "copier", "enable.auto.commit", "false",
            "auto.offset.reset", "earliest", "isolation.level", "read_committed", "max.poll.records", 50));
        consumer.subscribe(List.of(input));
        var producer = producer(Map.of("transactional.id", input + "-copier", "transaction.timeout.ms", 20000));
        producer.initTransactions();
        System.out.println("copying");
        long copied = 0;
        for (int idle = 0; idle < 10; ) {
            var records = consumer.poll(Duration.ofMillis(200));
            if (records.isEmpty()) {
                boolean behind = consumer.assignment().isEmpty() || consumer.endOffsets(consumer.assignment()).entrySet().stream()
                    .anyMatch(end -> consumer.position(end.getKey()) < end.getValue());
                idle = behind ? 0 : idle + 1;
                continue;
            }
            idle = 0;
            try {
                producer.beginTransaction();
                Map<TopicPartition, OffsetAndMetadata> next = new HashMap<>();
                for (var record : records) {
                    producer.send(new ProducerRecord<>(output, record.key(), "copied " + record.value()));
                    next.put(new TopicPartition(record.topic(), record.partition()), new OffsetAndMetadata(record.offset() + 1));
                }
                producer.sendOffsetsToTransaction(next, consumer.groupMetadata());
                producer.commitTransaction();
                copied += records.count();
                Thread.sleep(paceMs);
            } catch (ProducerFencedException | FencedInstanceIdException | OutOfOrderSequenceException | AuthorizationException fatal) {
                throw fatal;
            } catch (KafkaException failed) {
                producer.abortTransaction();
                var committed = consumer.committed(consumer.assignment());
                consumer.assignment().forEach(p -> consumer.seek(p, committed.get(p) == null ? 0 : committed.get(p).offset()));
            }
        }
        System.out.println("copied all, the last " + copied);
        producer.close();
        consumer.close();
    }

    static List<String> values(String topic) {
        try (var consumer = consumer(Map.of("isolation.level", "read_committed"))) {
            var partitions = IntStream.range(0, PARTITIONS).mapToObj(p -> new TopicPartition(topic, p)).toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            var ends = consumer.endOffsets(partitions);
            List<String> values = new ArrayList<>();
            while (partitions.stream().anyMatch(p -> consumer.position(p) < ends.get(p))) {
                for (var record : consumer.poll(Duration.ofMillis(200))) values.add(record.value());
            }
            return values;
        }
    }

    static void check(String input, String output) {
        var wanted = values(input).stream().map(v -> "copied " + v).sorted().toList();
        var got = values(output).stream().sorted().toList();
        if (!wanted.equals(got)) {
            var twice = got.stream().collect(Collectors.groupingBy(v -> v, Collectors.counting())).entrySet().stream().filter(e -> e.getValue() > 1).count();
            throw new IllegalStateException(wanted.size() + " records in, " + got.size() + " out, " + twice + " more than once");
        }
        System.out.println("equal: " + got.size());
    }
}
