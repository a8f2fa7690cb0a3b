import java.nio.ByteBuffer;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.*;
import java.util.stream.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.acl.*;
import org.apache.kafka.common.config.*;
import org.apache.kafka.common.quota.*;
import org.apache.kafka.common.serialization.*;

/**
 * Fills a broker with a little of everything, says what a client can see of it, and goes on where it stopped.
 *
 * Adopted BOOTSTRAP fill|show|go-on
 */
public class Adopted {
    static final List<String> TOPICS = List.of("plain", "compacted", "transactional", "trimmed");
    static String bootstrap;

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            switch (args[1]) {
                case "fill" -> { fill(admin); show(admin); }
                case "show" -> show(admin);
                case "go-on" -> goOn(admin);
                default -> throw new IllegalArgumentException(args[1]);
            }
        }
    }

    static KafkaProducer<String, String> producer(Map<String, Object> more) {
        Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "linger.ms", 5));
        config.putAll(more);
        return new KafkaProducer<>(config, new StringSerializer(), new StringSerializer());
    }

    static KafkaConsumer<String, String> consumer(String group, String isolation) {
        Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "auto.offset.reset", "earliest",
            "enable.auto.commit", "false", "isolation.level", isolation, "allow.auto.create.topics", "false"));
        if (group != null) config.put("group.id", group);
        return new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
    }

    static void fill(Admin admin) throws Exception {
        admin.createTopics(List.of(
            new NewTopic("plain", 3, (short) 1).configs(Map.of("segment.bytes", "1048576", "retention.ms", "-1")),
            new NewTopic("compacted", 1, (short) 1).configs(Map.of("cleanup.policy", "compact", "segment.bytes", "1048576",
                "min.cleanable.dirty.ratio", "0.01", "max.compaction.lag.ms", "1000")),
            new NewTopic("transactional", 2, (short) 1),
            new NewTopic("trimmed", 1, (short) 1),
            new NewTopic("removed", 1, (short) 1))).all().get();
        admin.createPartitions(Map.of("plain", NewPartitions.increaseTo(4))).all().get();
        try (var producer = producer(Map.of("compression.type", "lz4"))) {
            for (int i = 0; i < 20_000; i++) producer.send(new ProducerRecord<>("plain", "k" + i, "value " + i + " " + "x".repeat(i % 300)));
            for (int i = 0; i < 20_000; i++) producer.send(new ProducerRecord<>("compacted", "k" + i % 50, "value " + i + "y".repeat(200)));
            for (int i = 0; i < 100; i++) producer.send(new ProducerRecord<>("trimmed", null, "value " + i));
        }
        for (String id : List.of("one", "two")) {
            try (var producer = producer(Map.of("transactional.id", "adopted-" + id))) {
                producer.initTransactions();
                for (int round = 0; round < 10; round++) {
                    producer.beginTransaction();
                    for (int i = 0; i < 10; i++) producer.send(new ProducerRecord<>("transactional", "k" + i, id + " " + round + " " + i));
                    if (round % 3 == 1) producer.abortTransaction(); else producer.commitTransaction();
                }
            }
        }
        admin.deleteRecords(Map.of(new TopicPartition("trimmed", 0), RecordsToDelete.beforeOffset(40))).all().get();
        try (var consumer = consumer("adopted-group", "read_committed")) {
            consumer.subscribe(List.of("plain"));
            int seen = 0;
            while (seen < 5000) seen += consumer.poll(Duration.ofMillis(500)).count();
            consumer.commitSync();
        }
        admin.deleteTopics(List.of("removed")).all().get();
        alter(admin, ConfigResource.Type.BROKER, "", "log.cleaner.threads", "2");
        alter(admin, ConfigResource.Type.GROUP, "adopted-group", "consumer.session.timeout.ms", "50000");
        alter(admin, ConfigResource.Type.TOPIC, "trimmed", "retention.bytes", "123456789");
        admin.alterClientQuotas(List.of(new ClientQuotaAlteration(new ClientQuotaEntity(Map.of("user", "alice")),
            List.of(new ClientQuotaAlteration.Op("producer_byte_rate", 1e6))))).all().get();
        admin.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion("alice",
            new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096), "secret"))).all().get();
        // Until Kafka's cleaner was there; a segment is closed by time only when another record comes.
        try (var producer = producer(Map.of())) {
            while (count("compacted") >= 20_000) {
                producer.send(new ProducerRecord<>("compacted", "k0", "again")).get();
                Thread.sleep(1000);
            }
        }
    }

    static void alter(Admin admin, ConfigResource.Type type, String name, String key, String value) throws Exception {
        admin.incrementalAlterConfigs(Map.of(new ConfigResource(type, name),
            List.of(new AlterConfigOp(new ConfigEntry(key, value), AlterConfigOp.OpType.SET)))).all().get();
    }

    static List<TopicPartition> partitions(Admin admin, String topic) throws Exception {
        return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().stream()
            .map(p -> new TopicPartition(topic, p.partition())).toList();
    }

    static long count(String topic) {
        try (var consumer = consumer(null, "read_uncommitted")) {
            var all = List.of(new TopicPartition(topic, 0));
            return read(consumer, all, record -> {});
        }
    }

    static long read(KafkaConsumer<String, String> consumer, Collection<TopicPartition> partitions,
            java.util.function.Consumer<ConsumerRecord<String, String>> each) {
        consumer.assign(partitions);
        consumer.seekToBeginning(partitions);
        Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
        long count = 0;
        while (partitions.stream().anyMatch(p -> consumer.position(p) < ends.get(p))) {
            for (var record : consumer.poll(Duration.ofMillis(200))) {
                each.accept(record);
                count++;
            }
        }
        return count;
    }

    static String digest(List<TopicPartition> partitions, String isolation) throws Exception {
        Map<Integer, MessageDigest> digests = new TreeMap<>();
        for (TopicPartition partition : partitions) digests.put(partition.partition(), MessageDigest.getInstance("SHA-256"));
        long count;
        try (var consumer = consumer(null, isolation)) {
            count = read(consumer, partitions, record -> {
                MessageDigest digest = digests.get(record.partition());
                digest.update(ByteBuffer.allocate(16).putLong(record.offset()).putLong(record.timestamp()).array());
                digest.update((record.key() + "\0" + record.value() + "\0").getBytes());
            });
        }
        return count + " records " + digests.values().stream().map(d -> HexFormat.of().formatHex(d.digest(), 0, 8)).collect(Collectors.joining(" "));
    }

    static Map<String, String> latest(List<TopicPartition> partitions) {
        Map<String, String> values = new TreeMap<>();
        try (var consumer = consumer(null, "read_committed")) {
            read(consumer, partitions, record -> values.put(record.key(), record.offset() + " " + record.value().hashCode()));
        }
        return values;
    }

    static void show(Admin admin) throws Exception {
        System.out.println("cluster " + admin.describeCluster().clusterId().get());
        System.out.println("topics " + new TreeSet<>(admin.listTopics().names().get()));
        for (String topic : TOPICS) {
            var partitions = partitions(admin, topic);
            System.out.println(topic + " " + admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).topicId());
            for (OffsetSpec spec : List.of(OffsetSpec.earliest(), OffsetSpec.latest(), OffsetSpec.maxTimestamp())) {
                // Kafka finds the largest timestamp also below the log start; we do not.
                if (topic.equals("trimmed") && spec instanceof OffsetSpec.MaxTimestampSpec) continue;
                var found = admin.listOffsets(partitions.stream().collect(Collectors.toMap(p -> p, p -> spec))).all().get();
                System.out.println("  " + spec.getClass().getSimpleName() + " " + partitions.stream().map(p -> found.get(p).offset()).toList());
            }
            if (topic.equals("compacted")) {
                // Either broker may clean on while we look: the last value of each key is what must stay.
                System.out.println("  latest " + latest(partitions));
                config(admin, ConfigResource.Type.TOPIC, topic, ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG);
                continue;
            }
            System.out.println("  committed " + digest(partitions, "read_committed"));
            System.out.println("  all " + digest(partitions, "read_uncommitted"));
            config(admin, ConfigResource.Type.TOPIC, topic, ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG);
        }
        config(admin, ConfigResource.Type.BROKER, "", ConfigEntry.ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG);
        config(admin, ConfigResource.Type.GROUP, "adopted-group", ConfigEntry.ConfigSource.DYNAMIC_GROUP_CONFIG);
        System.out.println("quotas " + admin.describeClientQuotas(ClientQuotaFilter.all()).entities().get());
        System.out.println("group " + new TreeMap<>(admin.listConsumerGroupOffsets("adopted-group").partitionsToOffsetAndMetadata().get()
            .entrySet().stream().collect(Collectors.toMap(e -> e.getKey().toString(), e -> e.getValue().offset()))));
    }

    static void config(Admin admin, ConfigResource.Type type, String name, ConfigEntry.ConfigSource source) throws Exception {
        var resource = new ConfigResource(type, name);
        var entries = admin.describeConfigs(List.of(resource)).all().get().get(resource).entries();
        System.out.println("  config " + type + " " + name + " " + entries.stream().filter(e -> e.source() == source)
            .map(e -> e.name() + "=" + e.value()).sorted().toList());
    }

    static void goOn(Admin admin) throws Exception {
        var plain = partitions(admin, "plain");
        long committed = admin.listConsumerGroupOffsets("adopted-group").partitionsToOffsetAndMetadata().get().values().stream()
            .mapToLong(OffsetAndMetadata::offset).sum();
        try (var producer = producer(Map.of())) {
            for (int i = 0; i < 1000; i++) producer.send(new ProducerRecord<>("plain", "k" + i, "new " + i));
        }
        try (var producer = producer(Map.of("transactional.id", "adopted-one"))) {
            producer.initTransactions();
            producer.beginTransaction();
            producer.send(new ProducerRecord<>("transactional", "k", "new"));
            producer.commitTransaction();
        }
        long seen = 0, total = 21_000 - committed;
        try (var consumer = consumer("adopted-group", "read_committed")) {
            consumer.subscribe(List.of("plain"));
            while (seen < total) seen += consumer.poll(Duration.ofMillis(500)).count();
            consumer.commitSync();
        }
        if (seen != total) throw new IllegalStateException("the group read " + seen + " of " + total);
        System.out.println("went on: " + seen + " records behind the position, " + plain.size() + " partitions");
    }
}
