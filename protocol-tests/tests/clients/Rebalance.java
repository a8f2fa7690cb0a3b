import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.serialization.*;

/** Consumers come and go while records flow; every record is seen, and each committed partition goes on where it stopped. */
public class Rebalance {
    static final int PARTITIONS = 6;

    public static void main(String[] args) throws Exception {
        String bootstrap = args[0], topic = args[1];
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            admin.createTopics(List.of(new NewTopic(topic, PARTITIONS, (short) 1))).all().get();
        }
        run(bootstrap, topic, "range", "org.apache.kafka.clients.consumer.RangeAssignor", false);
        run(bootstrap, topic, "cooperative", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor", false);
        run(bootstrap, topic, "static", "org.apache.kafka.clients.consumer.RangeAssignor", true);
    }

    static void run(String bootstrap, String topic, String name, String assignor, boolean fixed) throws Exception {
        String group = name + "-" + UUID.randomUUID();
        Set<String> wanted = ConcurrentHashMap.newKeySet(), seen = ConcurrentHashMap.newKeySet();
        ExecutorService threads = Executors.newCachedThreadPool();
        List<Member> members = new ArrayList<>();
        for (int i = 0; i < 2; i++) members.add(new Member(bootstrap, topic, group, assignor, fixed ? "m" + i : null, seen));
        threads.submit(members.get(0));
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(
                Map.of("bootstrap.servers", bootstrap), new StringSerializer(), new StringSerializer())) {
            for (int i = 0; i < 900; i++) {
                String value = name + i;
                wanted.add(value);
                producer.send(new ProducerRecord<>(topic, i % PARTITIONS, null, value)).get();
                if (i == 200) threads.submit(members.get(1));
                if (i == 700) members.get(1).stop();
            }
        }
        long deadline = System.currentTimeMillis() + 60_000;
        while (!seen.containsAll(wanted)) {
            if (System.currentTimeMillis() > deadline) throw new AssertionError(name + ": " + seen.size() + " of " + wanted.size());
            Thread.sleep(50);
        }
        if (!fixed && members.get(1).owned == 0) throw new AssertionError(name + ": the second member got nothing");
        members.get(0).stop();
        threads.shutdown();
        if (!threads.awaitTermination(30, TimeUnit.SECONDS)) throw new AssertionError("members do not end");
        for (Member member : members) if (member.failure != null) throw member.failure;
        System.out.println(name + " ok");
    }

    static class Member implements Runnable {
        final KafkaConsumer<String, String> consumer;
        final String topic;
        final Set<String> seen;
        volatile boolean stopped;
        volatile int owned;
        volatile Exception failure;

        Member(String bootstrap, String topic, String group, String assignor, String instance, Set<String> seen) {
            Properties p = new Properties();
            p.put("bootstrap.servers", bootstrap);
            p.put("group.id", group);
            p.put("auto.offset.reset", "earliest");
            p.put("enable.auto.commit", "false");
            p.put("partition.assignment.strategy", assignor);
            p.put("session.timeout.ms", "6000");
            p.put("heartbeat.interval.ms", "300");
            if (instance != null) p.put("group.instance.id", instance);
            consumer = new KafkaConsumer<>(p, new StringDeserializer(), new StringDeserializer());
            this.topic = topic;
            this.seen = seen;
        }

        public void run() {
            try (consumer) {
                consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                    public void onPartitionsRevoked(Collection<TopicPartition> gone) { consumer.commitSync(); }
                    public void onPartitionsAssigned(Collection<TopicPartition> got) { owned += got.size(); }
                });
                while (!stopped) {
                    for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(100))) seen.add(record.value());
                    try {
                        consumer.commitSync();
                    } catch (RebalanceInProgressException | CommitFailedException later) {
                        // The next poll rejoins; what was not committed is read again by its next owner.
                    }
                }
            } catch (org.apache.kafka.common.errors.WakeupException end) {
                // Asked to stop.
            } catch (Exception e) {
                failure = e;
            }
        }

        void stop() {
            stopped = true;
        }
    }
}
