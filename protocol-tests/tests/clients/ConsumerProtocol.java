import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.serialization.*;

/** Groups of the consumer protocol (KIP-848): members share, return, name topics by expression, and come from the classic protocol. */
public class ConsumerProtocol {
    static final int PARTITIONS = 6;
    static String bootstrap;
    static Admin admin;

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        String topic = args[1];
        try (Admin a = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            admin = a;
            admin.createTopics(List.of(new NewTopic(topic, PARTITIONS, (short) 1))).all().get();
            share(topic, "share-" + UUID.randomUUID());
            fixed(topic, "fixed-" + UUID.randomUUID());
            regex(topic, "regex-" + UUID.randomUUID());
            migrate(topic, "migrate-" + UUID.randomUUID());
        }
    }

    /** Two members share every partition once; the one that stays gets all; records flow on from what was committed. */
    static void share(String topic, String group) throws Exception {
        Member a = new Member(group, topic, null, true), b = new Member(group, topic, null, true);
        a.await(PARTITIONS);
        b.start();
        a.await(PARTITIONS / 2);
        b.await(PARTITIONS / 2);
        if (!Collections.disjoint(a.owned, b.owned)) throw new AssertionError("a partition has two owners");
        try (KafkaProducer<String, String> producer = producer()) {
            for (int i = 0; i < 300; i++) producer.send(new ProducerRecord<>(topic, i % PARTITIONS, null, "share" + i)).get();
        }
        until(() -> a.seen.size() + b.seen.size() >= 300, "records");
        b.stop();
        a.await(PARTITIONS);
        ConsumerGroupDescription described = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
        if (!described.type().toString().equals("Consumer") || described.members().size() != 1) throw new AssertionError(described.toString());
        a.stop();
        Map<TopicPartition, OffsetAndMetadata> offsets = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
        long sum = offsets.values().stream().mapToLong(OffsetAndMetadata::offset).sum();
        if (sum != 300) throw new AssertionError("committed " + offsets);
        System.out.println("share ok");
    }

    /** A static member that returns owns what it owned, at once and without the other noticing. */
    static void fixed(String topic, String group) throws Exception {
        Member a = new Member(group, topic, "a", true), b = new Member(group, topic, "b", true);
        b.start();
        a.await(PARTITIONS / 2);
        b.await(PARTITIONS / 2);
        Set<TopicPartition> before = Set.copyOf(b.owned);
        int moves = a.moves;
        b.stop();
        Member again = new Member(group, topic, "b", true);
        again.await(PARTITIONS / 2);
        if (!again.owned.equals(before) || a.moves != moves) throw new AssertionError(before + " became " + again.owned);
        Member third = new Member(group, topic, "b", true);
        third.start();
        until(() -> third.failure instanceof UnreleasedInstanceIdException, "a second owner of the instance id is refused");
        again.stop();
        a.stop();
        System.out.println("static ok");
    }

    /** An expression is resolved by the broker; a topic that appears later is found. */
    static void regex(String topic, String group) throws Exception {
        String other = topic + "-other";
        Member a = new Member(group, null, null, true);
        a.pattern = topic + ".*";
        a.await(PARTITIONS);
        admin.createTopics(List.of(new NewTopic(other, 2, (short) 1))).all().get();
        a.await(PARTITIONS + 2);
        a.stop();
        Member bad = new Member(group, null, null, true);
        bad.pattern = "(";
        bad.start();
        until(() -> bad.failure instanceof InvalidRegularExpression, "a bad expression is refused");
        admin.deleteTopics(List.of(other)).all().get();
        System.out.println("regex ok");
    }

    /** A group goes from the classic protocol to the consumer protocol and back while it reads. */
    static void migrate(String topic, String group) throws Exception {
        Member classic = new Member(group, topic, null, false);
        classic.await(PARTITIONS);
        Member modern = new Member(group, topic, null, true);
        modern.start();
        classic.await(PARTITIONS / 2);
        modern.await(PARTITIONS / 2);
        type(group, "Consumer");
        modern.stop();
        classic.await(PARTITIONS);
        type(group, "Classic");
        classic.stop();
        System.out.println("migration ok");
    }

    static void type(String group, String wanted) throws Exception {
        String type = admin.describeConsumerGroups(List.of(group)).all().get().get(group).type().toString();
        if (!type.equals(wanted)) throw new AssertionError(group + " is " + type);
    }

    static KafkaProducer<String, String> producer() {
        return new KafkaProducer<>(Map.of("bootstrap.servers", bootstrap), new StringSerializer(), new StringSerializer());
    }

    static void until(Callable<Boolean> condition, String what) throws Exception {
        long deadline = System.currentTimeMillis() + 60_000;
        while (!condition.call()) {
            if (System.currentTimeMillis() > deadline) throw new AssertionError("never: " + what);
            Thread.sleep(20);
        }
    }

    static class Member implements Runnable {
        final String group, topic, instance;
        final boolean modern;
        final Set<TopicPartition> owned = ConcurrentHashMap.newKeySet();
        final Set<String> seen = ConcurrentHashMap.newKeySet();
        String pattern;
        volatile int moves;
        volatile boolean stopped;
        volatile Exception failure;
        Thread thread;

        Member(String group, String topic, String instance, boolean modern) {
            this.group = group;
            this.topic = topic;
            this.instance = instance;
            this.modern = modern;
        }

        void start() {
            if (thread == null) (thread = new Thread(this)).start();
        }

        void await(int partitions) throws Exception {
            start();
            until(() -> {
                if (failure != null) throw failure;
                return owned.size() == partitions;
            }, partitions + " partitions, has " + owned.size());
        }

        public void run() {
            Properties p = new Properties();
            p.put("bootstrap.servers", bootstrap);
            p.put("group.id", group);
            p.put("auto.offset.reset", "earliest");
            p.put("enable.auto.commit", "false");
            p.put("group.protocol", modern ? "consumer" : "classic");
            if (!modern) p.put("heartbeat.interval.ms", "300");
            if (instance != null) p.put("group.instance.id", instance);
            try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(p, new StringDeserializer(), new StringDeserializer())) {
                ConsumerRebalanceListener listener = new ConsumerRebalanceListener() {
                    public void onPartitionsRevoked(Collection<TopicPartition> gone) { owned.removeAll(gone); moves++; commit(consumer); }
                    public void onPartitionsAssigned(Collection<TopicPartition> got) { owned.addAll(got); moves++; }
                };
                if (pattern != null) consumer.subscribe(new SubscriptionPattern(pattern), listener);
                else consumer.subscribe(List.of(topic), listener);
                while (!stopped) {
                    for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(50))) seen.add(record.value());
                    commit(consumer);
                }
            } catch (Exception e) {
                failure = e;
            }
        }

        static void commit(KafkaConsumer<String, String> consumer) {
            try {
                consumer.commitSync();
            } catch (RebalanceInProgressException | CommitFailedException later) {
                // Read again by the next owner.
            }
        }

        void stop() throws Exception {
            stopped = true;
            thread.join();
            if (failure != null) throw failure;
        }
    }
}
