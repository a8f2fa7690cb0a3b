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
 * Counts words exactly once. Without a cache every word gives its next count, so the counts of a word must read 1, 2, 3 and
 * so on in the output: one missing or twice is seen.
 *
 * WordCount BOOTSTRAP fill INPUT OUTPUT LINES | run INPUT OUTPUT STATE_DIR | check INPUT OUTPUT LINES
 */
public class WordCount {
    static final int PARTITIONS = 3, WORDS = 20;
    static String bootstrap;

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        switch (args[1]) {
            case "fill" -> fill(args[2], args[3], Integer.parseInt(args[4]));
            case "run" -> run(args[2], args[3], args[4]);
            case "check" -> check(args[3], Integer.parseInt(args[4]));
            default -> throw new IllegalArgumentException(args[1]);
        }
    }

    static String line(int number) {
        return "word" + number % WORDS + " word" + (number * 7 + 3) % WORDS;
    }

    static void fill(String input, String output, int lines) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            admin.createTopics(List.of(new NewTopic(input, PARTITIONS, (short) 1), new NewTopic(output, PARTITIONS, (short) 1))).all().get();
        }
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap);
        try (var producer = new KafkaProducer<>(config, new StringSerializer(), new StringSerializer())) {
            for (int i = 0; i < lines; i++) producer.send(new ProducerRecord<>(input, "k" + i, line(i)));
        }
    }

    static void run(String input, String output, String state) throws Exception {
        Properties config = new Properties();
        config.putAll(Map.of("application.id", input + "-app", "bootstrap.servers", bootstrap, "processing.guarantee", "exactly_once_v2",
            "commit.interval.ms", "100", "statestore.cache.max.bytes", "0", "state.dir", state, "replication.factor", "1",
            "default.key.serde", Serdes.StringSerde.class, "default.value.serde", Serdes.StringSerde.class));
        config.putAll(Map.of("consumer.auto.offset.reset", "earliest", "session.timeout.ms", "6000", "heartbeat.interval.ms", "1000",
            "producer.transaction.timeout.ms", "10000"));
        StreamsBuilder builder = new StreamsBuilder();
        builder.<String, String>stream(input).flatMapValues(line -> Arrays.asList(line.split(" "))).groupBy((key, word) -> word).count()
            .toStream().to(output, Produced.with(Serdes.String(), Serdes.Long()));
        KafkaStreams streams = new KafkaStreams(builder.build(), config);
        CountDownLatch failed = new CountDownLatch(1);
        streams.setUncaughtExceptionHandler(error -> {
            System.out.println("failed: " + error);
            return org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse.REPLACE_THREAD;
        });
        streams.setStateListener((now, before) -> System.out.println("state " + now));
        streams.start();
        failed.await();
    }

    static void check(String output, int lines) {
        Map<String, Long> wanted = new TreeMap<>(), counts = new TreeMap<>();
        for (int i = 0; i < lines; i++) for (String word : line(i).split(" ")) wanted.merge(word, 1L, Long::sum);
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap, "isolation.level", "read_committed");
        long deadline = System.currentTimeMillis() + 120_000;
        try (var consumer = new KafkaConsumer<>(config, new StringDeserializer(), new LongDeserializer())) {
            var partitions = java.util.stream.IntStream.range(0, PARTITIONS).mapToObj(p -> new TopicPartition(output, p)).toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            while (!counts.equals(wanted)) {
                if (System.currentTimeMillis() > deadline) throw new IllegalStateException("counts " + counts + " instead of " + wanted);
                for (var record : consumer.poll(Duration.ofMillis(200))) {
                    long before = counts.getOrDefault(record.key(), 0L);
                    if (record.value() != before + 1) throw new IllegalStateException(record.key() + " went from " + before + " to " + record.value());
                    counts.put(record.key(), record.value());
                }
            }
        }
        System.out.println("counts are right");
    }
}
