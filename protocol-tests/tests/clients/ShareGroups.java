import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.*;

/**
 * Share groups (KIP-932): more members than partitions, an acknowledgement for each record, isolation, old records.
 *
 * ShareGroups BOOTSTRAP NAME
 */
public class ShareGroups {
    static String bootstrap, name;
    static Admin admin;

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        name = args[1];
        try (Admin made = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            admin = made;
            many();
            said();
            limits();
            renewed();
            committed();
            old();
        }
    }

    /** Five members on one partition: each record is accepted once, and all of them work. */
    static void many() throws Exception {
        String topic = topic("many", Map.of()), group = group("many", Map.of("share.auto.offset.reset", "earliest"));
        int records = 2000, members = 5;
        Map<String, AtomicInteger> accepted = new ConcurrentHashMap<>();
        AtomicInteger workers = new AtomicInteger();
        ExecutorService threads = Executors.newFixedThreadPool(members);
        long deadline = deadline();
        for (int m = 0; m < members; m++) {
            threads.submit(() -> {
                boolean worked = false;
                try (ShareConsumer<String, String> consumer = consumer(group, "implicit", Map.of("max.poll.records", "50"))) {
                    consumer.subscribe(List.of(topic));
                    while (accepted.size() < records && System.currentTimeMillis() < deadline) {
                        for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                            accepted.computeIfAbsent(record.value(), value -> new AtomicInteger()).incrementAndGet();
                            worked = true;
                        }
                        consumer.commitSync();
                        Thread.sleep(5);
                    }
                }
                if (worked) workers.incrementAndGet();
                return null;
            });
        }
        send(topic, records, null);
        threads.shutdown();
        expect(threads.awaitTermination(60, TimeUnit.SECONDS), "members end");
        expect(accepted.size() == records, accepted.size() + " of " + records);
        long twice = accepted.values().stream().filter(count -> count.get() > 1).count();
        expect(twice == 0, twice + " records were delivered twice");
        expect(workers.get() > 1, "one member did all the work");
        System.out.println("many ok");
    }

    /** Accept, release and reject, each by itself; the count of deliveries; what a closed member had comes back. */
    static void said() throws Exception {
        String topic = topic("said", Map.of()), group = group("said", Map.of("share.auto.offset.reset", "earliest"));
        send(topic, 9, null);
        Map<String, Short> last = new TreeMap<>();
        try (ShareConsumer<String, String> consumer = consumer(group, "explicit", Map.of())) {
            consumer.subscribe(List.of(topic));
            List<ConsumerRecord<String, String>> first = poll(consumer, 9);
            for (ConsumerRecord<String, String> record : first) {
                int at = (int) record.offset();
                consumer.acknowledge(record, at % 3 == 0 ? AcknowledgeType.ACCEPT : at % 3 == 1 ? AcknowledgeType.RELEASE : AcknowledgeType.REJECT);
            }
            expect(consumer.commitSync().values().stream().allMatch(Optional::isEmpty), "all are taken");
            for (ConsumerRecord<String, String> record : poll(consumer, 3)) {
                last.put(record.value(), record.deliveryCount().get());
                if (record.offset() == 1) consumer.acknowledge(record, AcknowledgeType.ACCEPT);
            }
            expect(last.equals(Map.of("1", (short) 2, "4", (short) 2, "7", (short) 2)), "the released ones came again: " + last);
        }
        // The others were in nobody's name when the member closed.
        try (ShareConsumer<String, String> consumer = consumer(group, "implicit", Map.of())) {
            consumer.subscribe(List.of(topic));
            last.clear();
            for (ConsumerRecord<String, String> record : poll(consumer, 2)) last.put(record.value(), record.deliveryCount().get());
            expect(last.equals(Map.of("4", (short) 3, "7", (short) 3)), "what a member held came again: " + last);
        }
        System.out.println("said ok");
    }

    /** A record is delivered so often and no more, others are not hindered, and an answer has no record too many. */
    static void limits() throws Exception {
        String topic = topic("limits", Map.of());
        String group = group("limits", Map.of("share.auto.offset.reset", "earliest", "share.delivery.count.limit", "2"));
        send(topic, 20, "zstd");
        int times = 0;
        Set<String> others = new TreeSet<>();
        try (ShareConsumer<String, String> consumer = consumer(group, "explicit",
                Map.of("share.acquire.mode", "record_limit", "max.poll.records", "7"))) {
            consumer.subscribe(List.of(topic));
            long deadline = deadline();
            while (others.size() < 19 || times < 2) {
                expect(System.currentTimeMillis() < deadline, times + " times and " + others);
                ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(500));
                expect(records.count() <= 7, "not more than asked for: " + records.count());
                for (ConsumerRecord<String, String> record : records) {
                    boolean poison = record.value().equals("4");
                    if (poison) times++; else others.add(record.value());
                    consumer.acknowledge(record, poison ? AcknowledgeType.RELEASE : AcknowledgeType.ACCEPT);
                }
                consumer.commitSync();
            }
            expect(consumer.poll(Duration.ofMillis(500)).isEmpty(), "nothing is left");
        }
        expect(times == 2, times + " deliveries");
        System.out.println("limits ok");
    }

    /** A member that works for long keeps its record by renewing it, and is the only one to have it. */
    static void renewed() throws Exception {
        String topic = topic("renewed", Map.of()), group = group("renewed", Map.of("share.auto.offset.reset", "earliest"));
        send(topic, 1, null);
        try (ShareConsumer<String, String> consumer = consumer(group, "explicit", Map.of())) {
            consumer.subscribe(List.of(topic));
            ConsumerRecord<String, String> record = poll(consumer, 1).get(0);
            consumer.acknowledge(record, AcknowledgeType.RENEW);
            expect(consumer.commitSync().values().stream().allMatch(Optional::isEmpty), "renewed");
            record = poll(consumer, 1).get(0);
            expect(record.deliveryCount().get() == 1, "the same delivery");
            consumer.acknowledge(record, AcknowledgeType.ACCEPT);
            expect(consumer.commitSync().values().stream().allMatch(Optional::isEmpty), "accepted");
        }
        System.out.println("renewed ok");
    }

    /** With read_committed nothing of an aborted transaction is delivered, and nothing of an open one. */
    static void committed() throws Exception {
        String topic = topic("committed", Map.of());
        String group = group("committed", Map.of("share.auto.offset.reset", "earliest", "share.isolation.level", "read_committed"));
        Map<String, Object> settings = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "transactional.id", name + "-share"));
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            producer.initTransactions();
            for (int transaction = 0; transaction < 4; transaction++) {
                producer.beginTransaction();
                for (int i = 0; i < 5; i++) producer.send(new ProducerRecord<>(topic, transaction + "-" + i)).get();
                if (transaction % 2 == 0) producer.commitTransaction(); else producer.abortTransaction();
            }
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(topic, "open")).get();
            Set<String> seen = new TreeSet<>();
            try (ShareConsumer<String, String> consumer = consumer(group, "implicit", Map.of())) {
                consumer.subscribe(List.of(topic));
                for (ConsumerRecord<String, String> record : poll(consumer, 10)) seen.add(record.value());
                expect(seen.size() == 10 && seen.stream().allMatch(value -> value.startsWith("0-") || value.startsWith("2-")), "committed: " + seen);
                expect(consumer.poll(Duration.ofMillis(500)).isEmpty(), "an open transaction");
                producer.commitTransaction();
                expect(poll(consumer, 1).get(0).value().equals("open"), "committed now");
            }
        }
        System.out.println("committed ok");
    }

    /** Most of it is in the object store where there is one; the group begins where its duration says. */
    static void old() throws Exception {
        Map<String, String> configs = new HashMap<>(Map.of("segment.bytes", "1048576", "retention.ms", "-1"));
        String topic;
        try {
            Map<String, String> tiered = new HashMap<>(configs);
            tiered.put("local.retention.bytes", "1048576");
            tiered.put("remote.storage.enable", "true");
            topic = topic("old", tiered);
        } catch (ExecutionException refused) {
            topic = topic("old", configs);
        }
        int records = 4000;
        long hour = 3_600_000, now = System.currentTimeMillis();
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(
                Map.of("bootstrap.servers", bootstrap, "linger.ms", "20"), new StringSerializer(), new StringSerializer())) {
            // The first half is two hours old, the second as many minutes.
            for (int i = 0; i < records; i++) {
                long at = now - (i < records / 2 ? 2 * hour : 120_000);
                producer.send(new ProducerRecord<>(topic, null, at, null, i + " ".repeat(2000)));
                if (i == records / 2 - 1) producer.flush();
            }
        }
        for (String reset : List.of("earliest", "by_duration:PT1H")) {
            String group = group("old-" + reset.substring(0, 2), Map.of("share.auto.offset.reset", reset));
            int expected = reset.equals("earliest") ? records : records / 2;
            Set<String> seen = new HashSet<>();
            try (ShareConsumer<String, String> consumer = consumer(group, "implicit", Map.of())) {
                consumer.subscribe(List.of(topic));
                long deadline = deadline();
                while (seen.size() < expected) {
                    expect(System.currentTimeMillis() < deadline, reset + ": " + seen.size() + " of " + expected);
                    for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(500))) seen.add(record.value().trim());
                }
            }
            expect(seen.contains("0") == reset.equals("earliest") && seen.size() == expected, reset + ": " + seen.size());
        }
        System.out.println("old ok");
    }

    static String topic(String kind, Map<String, String> configs) throws Exception {
        String topic = name + "-" + kind;
        admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1).configs(configs))).all().get();
        return topic;
    }

    static String group(String kind, Map<String, String> configs) throws Exception {
        String group = name + "-" + kind;
        List<AlterConfigOp> set = new ArrayList<>();
        configs.forEach((key, value) -> set.add(new AlterConfigOp(new ConfigEntry(key, value), AlterConfigOp.OpType.SET)));
        admin.incrementalAlterConfigs(Map.of(new ConfigResource(ConfigResource.Type.GROUP, group), set)).all().get();
        return group;
    }

    static ShareConsumer<String, String> consumer(String group, String mode, Map<String, String> more) {
        Map<String, Object> settings = new HashMap<>(more);
        settings.putAll(Map.of("bootstrap.servers", bootstrap, "group.id", group, "share.acknowledgement.mode", mode));
        return new KafkaShareConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
    }

    static void send(String topic, int records, String codec) throws Exception {
        Map<String, Object> settings = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "linger.ms", "10"));
        if (codec != null) settings.put("compression.type", codec);
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (int i = 0; i < records; i++) producer.send(new ProducerRecord<>(topic, Integer.toString(i)));
        }
    }

    /** Polls until there are so many records. */
    static List<ConsumerRecord<String, String>> poll(ShareConsumer<String, String> consumer, int count) {
        List<ConsumerRecord<String, String>> got = new ArrayList<>();
        long deadline = deadline();
        while (got.size() < count) {
            expect(System.currentTimeMillis() < deadline, got.size() + " of " + count + " records");
            for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(500))) got.add(record);
        }
        expect(got.size() == count, got.size() + " records and not " + count);
        return got;
    }

    static long deadline() {
        return System.currentTimeMillis() + 40_000;
    }

    static void expect(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }
}
