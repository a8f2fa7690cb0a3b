import java.time.Duration;
import java.util.*;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;
import org.apache.kafka.streams.*;
import org.apache.kafka.streams.kstream.*;

/**
 * Counts words, and joins orders with a table of customers that it counts too, exactly once and as a streams group (KIP-1071).
 * Without a cache every word gives its next count and every order its place among those of its customer: one missing or twice
 * is seen.
 *
 * StreamsGroup BOOTSTRAP fill NAME LINES | run NAME STATE_DIR | check NAME LINES
 */
public class StreamsGroup {
    static final int PARTITIONS = 3, WORDS = 20, CUSTOMERS = 7;
    static String bootstrap;

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        switch (args[1]) {
            case "fill" -> fill(args[2], Integer.parseInt(args[3]));
            case "run" -> run(args[2], args[3]);
            case "check" -> check(args[2], Integer.parseInt(args[3]));
            default -> throw new IllegalArgumentException(args[1]);
        }
    }

    static String line(int number) {
        return "word" + number % WORDS + " word" + (number * 7 + 3) % WORDS;
    }

    static void fill(String name, int lines) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            List<NewTopic> topics = new ArrayList<>();
            for (String topic : List.of("-lines", "-customers", "-orders", "-counts", "-joined")) {
                topics.add(new NewTopic(name + topic, PARTITIONS, (short) 1));
            }
            admin.createTopics(topics).all().get();
        }
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap);
        try (var producer = new KafkaProducer<>(config, new StringSerializer(), new StringSerializer())) {
            for (int i = 0; i < CUSTOMERS; i++) producer.send(new ProducerRecord<>(name + "-customers", "c" + i, "name" + i));
            for (int i = 0; i < lines; i++) {
                producer.send(new ProducerRecord<>(name + "-lines", "k" + i, line(i)));
                producer.send(new ProducerRecord<>(name + "-orders", "c" + i % CUSTOMERS, "order" + i));
            }
        }
    }

    static void run(String name, String state) throws Exception {
        Properties config = new Properties();
        config.putAll(Map.of("application.id", name + "-app", "bootstrap.servers", bootstrap, "processing.guarantee", "exactly_once_v2",
            "commit.interval.ms", "100", "statestore.cache.max.bytes", "0", "state.dir", state, "replication.factor", "1",
            "default.key.serde", Serdes.StringSerde.class, "default.value.serde", Serdes.StringSerde.class, "group.protocol", "streams"));
        config.putAll(Map.of("consumer.auto.offset.reset", "earliest", "producer.transaction.timeout.ms", "4000",
            "num.stream.threads", "2", "application.server", "localhost:1234"));
        StreamsBuilder builder = new StreamsBuilder();
        builder.<String, String>stream(name + "-lines").flatMapValues(line -> Arrays.asList(line.split(" ")))
            .groupBy((key, word) -> word).count().toStream().to(name + "-counts", Produced.with(Serdes.String(), Serdes.Long()));
        KTable<String, String> customers = builder.table(name + "-customers");
        builder.<String, String>stream(name + "-orders").join(customers, (order, customer) -> customer)
            .groupByKey().count().toStream().to(name + "-joined", Produced.with(Serdes.String(), Serdes.Long()));
        KafkaStreams streams = new KafkaStreams(builder.build(), config);
        streams.setUncaughtExceptionHandler(error -> {
            System.out.println("failed: " + error);
            return org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse.REPLACE_THREAD;
        });
        streams.setStateListener((now, before) -> System.out.println("state " + now));
        streams.start();
        new CountDownLatch(1).await();
    }

    static void check(String name, int lines) {
        Map<String, Long> words = new TreeMap<>(), orders = new TreeMap<>();
        for (int i = 0; i < lines; i++) {
            for (String word : line(i).split(" ")) words.merge(word, 1L, Long::sum);
            orders.merge("c" + i % CUSTOMERS, 1L, Long::sum);
        }
        check(name + "-counts", words);
        check(name + "-joined", orders);
        System.out.println("counts are right");
    }

    static void check(String output, Map<String, Long> wanted) {
        Map<String, Long> counts = new TreeMap<>();
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap, "isolation.level", "read_committed");
        long deadline = System.currentTimeMillis() + 180_000;
        try (var consumer = new KafkaConsumer<>(config, new StringDeserializer(), new LongDeserializer())) {
            var partitions = java.util.stream.IntStream.range(0, PARTITIONS).mapToObj(p -> new TopicPartition(output, p)).toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            while (!counts.equals(wanted)) {
                if (System.currentTimeMillis() > deadline) throw new IllegalStateException(output + ": " + counts + " instead of " + wanted);
                for (var record : consumer.poll(Duration.ofMillis(200))) {
                    long before = counts.getOrDefault(record.key(), 0L);
                    if (record.value() != before + 1) throw new IllegalStateException(record.key() + " went from " + before + " to " + record.value());
                    counts.put(record.key(), record.value());
                }
            }
        }
    }
}
