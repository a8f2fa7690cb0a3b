import java.io.*;
import java.nio.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.*;

/**
 * Sends the lines of a file (key, tab, value) and reads them back as a group.
 *
 * RealInput BOOTSTRAP TOPIC CODEC FILE PARTITIONS SEGMENT_BYTES LOCAL_RETENTION_BYTES
 * RealInput BOOTSTRAP TOPIC read DIGEST      reads again and compares with an earlier digest
 */
public class RealInput {
    static final long EPOCH = 1_700_000_000_000L;

    /** One digest per partition over what a record is, fed in offset order. */
    static class Digests {
        final Map<Integer, MessageDigest> byPartition = new TreeMap<>();
        long records, bytes;

        synchronized void add(int partition, long offset, long timestamp, byte[] key, byte[] value, Iterable<Header> headers)
                throws Exception {
            MessageDigest digest = byPartition.get(partition);
            if (digest == null) byPartition.put(partition, digest = MessageDigest.getInstance("SHA-256"));
            digest.update(ByteBuffer.allocate(20).putInt(partition).putLong(offset).putLong(timestamp).array());
            feed(digest, key);
            feed(digest, value);
            for (Header header : headers) {
                feed(digest, header.key().getBytes(StandardCharsets.UTF_8));
                feed(digest, header.value());
            }
            records++;
            bytes += (key == null ? 0 : key.length) + (value == null ? 0 : value.length);
        }

        static void feed(MessageDigest digest, byte[] part) {
            digest.update(ByteBuffer.allocate(4).putInt(part == null ? -1 : part.length).array());
            if (part != null) digest.update(part);
        }

        String hex() throws Exception {
            MessageDigest all = MessageDigest.getInstance("SHA-256");
            for (MessageDigest one : byPartition.values()) all.update(((MessageDigest) one.clone()).digest());
            return HexFormat.of().formatHex(all.digest());
        }
    }

    public static void main(String[] args) throws Exception {
        String bootstrap = args[0], topic = args[1];
        if (args[2].equals("read")) {
            Digests read = read(bootstrap, topic, "reader-" + UUID.randomUUID());
            compare(args[3], read);
            return;
        }
        int partitions = Integer.parseInt(args[4]);
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            Map<String, String> configs = new HashMap<>(Map.of("segment.bytes", args[5], "retention.ms", "-1"));
            // Apache Kafka without tiering refuses it and keeps everything anyway.
            try {
                Map<String, String> tiered = new HashMap<>(configs);
                tiered.put("local.retention.bytes", args[6]);
                tiered.put("remote.storage.enable", "true");
                admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(tiered))).all().get();
            } catch (ExecutionException refused) {
                admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(configs))).all().get();
            }
        }
        Digests sent = send(bootstrap, topic, args[2], args[3]);
        System.out.println("sent " + sent.records + " records, " + sent.bytes + " bytes, digest " + sent.hex());
        String group = "group-" + UUID.randomUUID();
        compare(sent.hex(), read(bootstrap, topic, group));
        resetByTime(bootstrap, topic, group, EPOCH + sent.records / 2);
    }

    static void compare(String expected, Digests read) throws Exception {
        System.out.println("read " + read.records + " records, " + read.bytes + " bytes, digest " + read.hex());
        if (!expected.equals(read.hex())) throw new AssertionError("another digest than " + expected);
        System.out.println("same digest");
    }

    static Digests send(String bootstrap, String topic, String codec, String file) throws Exception {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        p.put("compression.type", codec);
        p.put("linger.ms", "5");
        p.put("batch.size", "131072");
        p.put("max.request.size", "4194304");
        Digests digests = new Digests();
        AtomicReference<Exception> failure = new AtomicReference<>();
        AtomicLong number = new AtomicLong();
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer());
                BufferedReader lines = Files.newBufferedReader(Path.of(file))) {
            for (String line; (line = lines.readLine()) != null; ) {
                int tab = line.indexOf('\t');
                long n = number.getAndIncrement();
                byte[] key = n % 101 == 0 ? null : line.substring(0, Math.max(tab, 0)).getBytes(StandardCharsets.UTF_8);
                byte[] value = n % 103 == 0 && key != null ? null : line.substring(tab + 1).getBytes(StandardCharsets.UTF_8);
                if (n == 500) value = new byte[900_000];
                ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(topic, null, EPOCH + n, key, value);
                if (n % 7 == 0) record.headers().add("a", new byte[] {1}).add("a", null).add("b", new byte[0]);
                producer.send(record, (meta, error) -> {
                    try {
                        if (error != null) throw error;
                        digests.add(meta.partition(), meta.offset(), record.timestamp(), record.key(), record.value(), record.headers());
                    } catch (Exception e) {
                        failure.compareAndSet(null, e);
                    }
                });
            }
            producer.flush();
        }
        if (failure.get() != null) throw failure.get();
        return digests;
    }

    static Properties consumer(String bootstrap, String group) {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        p.put("group.id", group);
        p.put("auto.offset.reset", "earliest");
        p.put("enable.auto.commit", "false");
        p.put("max.poll.records", "5000");
        return p;
    }

    static Digests read(String bootstrap, String topic, String group) throws Exception {
        Digests digests = new Digests();
        try (KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(consumer(bootstrap, group), new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(topic));
            List<TopicPartition> all = new ArrayList<>();
            consumer.partitionsFor(topic).forEach(info -> all.add(new TopicPartition(topic, info.partition())));
            Map<TopicPartition, Long> ends = consumer.endOffsets(all);
            Map<TopicPartition, Long> at = new HashMap<>();
            long deadline = System.currentTimeMillis() + 600_000;
            while (!all.stream().allMatch(tp -> at.getOrDefault(tp, 0L) >= ends.get(tp))) {
                if (System.currentTimeMillis() > deadline) throw new AssertionError("not all was read: " + at + " of " + ends);
                for (ConsumerRecord<byte[], byte[]> r : consumer.poll(Duration.ofSeconds(1))) {
                    digests.add(r.partition(), r.offset(), r.timestamp(), r.key(), r.value(), r.headers());
                    at.put(new TopicPartition(topic, r.partition()), r.offset() + 1);
                }
            }
            consumer.commitSync();
        }
        return digests;
    }

    /** What `--reset-offsets --to-datetime` does, and then a read: it starts at the first record with that time or later. */
    static void resetByTime(String bootstrap, String topic, String group, long time) throws Exception {
        try (KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(consumer(bootstrap, group), new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            Map<TopicPartition, Long> times = new HashMap<>();
            consumer.partitionsFor(topic).forEach(info -> times.put(new TopicPartition(topic, info.partition()), time));
            consumer.assign(times.keySet());
            Map<TopicPartition, OffsetAndTimestamp> found = consumer.offsetsForTimes(times);
            for (TopicPartition tp : times.keySet()) {
                long offset = found.get(tp).offset();
                consumer.assign(List.of(tp));
                consumer.seek(tp, Math.max(0, offset - 1));
                boolean before = offset == 0, after = false;
                long deadline = System.currentTimeMillis() + 60_000;
                while (!(before && after)) {
                    if (System.currentTimeMillis() > deadline) throw new AssertionError("nothing at " + tp + " " + offset);
                    for (ConsumerRecord<byte[], byte[]> r : consumer.poll(Duration.ofSeconds(1))) {
                        if (r.offset() == offset - 1) {
                            if (r.timestamp() >= time) throw new AssertionError("an earlier record matches: " + r);
                            before = true;
                        } else if (r.offset() == offset) {
                            if (r.timestamp() < time) throw new AssertionError("too early: " + r);
                            after = true;
                        }
                    }
                }
            }
        }
        System.out.println("time reset ok");
    }
}
