// Transactions by Kafka's own client: half of them aborted, over segments small enough that the older ones come from the
// object store, the last one left open. Readers of committed records see the committed ones and end before the open one.
import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.serialization.*;

public class Transactions {
    public static void main(String[] args) throws Exception {
        String bootstrap = args[0], topic = args[1];
        int transactions = Integer.parseInt(args[2]);
        Map<String, Object> common = Map.of("bootstrap.servers", bootstrap);
        try (Admin admin = Admin.create(common)) {
            NewTopic made = new NewTopic(topic, 2, (short) 1);
            made.configs(Map.of("segment.bytes", "1048576", "local.retention.bytes", "1048576"));
            admin.createTopics(List.of(made)).all().get();
            Set<String> committed = new HashSet<>();
            Map<String, Object> producing = new HashMap<>(common);
            producing.put("transactional.id", topic + "-id");
            KafkaProducer<String, String> producer =
                new KafkaProducer<>(producing, new StringSerializer(), new StringSerializer());
            producer.initTransactions();
            String filling = "x".repeat(4000);
            for (int i = 0; i < transactions; i++) {
                producer.beginTransaction();
                for (int j = 0; j < 8; j++) {
                    String key = i + "-" + j;
                    producer.send(new ProducerRecord<>(topic, j % 2, key, filling));
                    if (i % 2 == 0) committed.add(key);
                }
                if (i % 2 == 0) {
                    producer.commitTransaction();
                } else {
                    producer.flush();
                    producer.abortTransaction();
                }
            }
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(topic, 0, "open", filling)).get();
            Thread.sleep(Integer.parseInt(args[3]));

            List<TopicPartition> partitions = List.of(new TopicPartition(topic, 0), new TopicPartition(topic, 1));
            Map<String, Object> reading = new HashMap<>(common);
            reading.put("isolation.level", "read_committed");
            Set<String> seen = new HashSet<>();
            try (KafkaConsumer<String, String> consumer =
                    new KafkaConsumer<>(reading, new StringDeserializer(), new StringDeserializer())) {
                consumer.assign(partitions);
                consumer.seekToBeginning(partitions);
                Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
                long deadline = System.currentTimeMillis() + 60_000;
                while (partitions.stream().anyMatch(p -> consumer.position(p) < ends.get(p))) {
                    if (System.currentTimeMillis() > deadline) throw new Exception("stuck before " + ends);
                    for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                        if (!seen.add(record.key())) throw new Exception("twice: " + record.key());
                    }
                }
            }
            System.out.println(seen.equals(committed) ? "committed ok" : "seen " + seen.size() + " of " + committed.size());
            DescribeProducersResult described = admin.describeProducers(List.of(partitions.get(0)));
            ProducerState state = described.partitionResult(partitions.get(0)).get().activeProducers().get(0);
            System.out.println(state.currentTransactionStartOffset().isPresent() ? "open ok" : "not open: " + state);
            long start = state.currentTransactionStartOffset().getAsLong();
            admin.abortTransaction(new AbortTransactionSpec(partitions.get(0), state.producerId(),
                (short) state.producerEpoch(), state.coordinatorEpoch().orElse(0))).all().get();
            state = admin.describeProducers(List.of(partitions.get(0))).all().get().get(partitions.get(0)).activeProducers().get(0);
            System.out.println(state.currentTransactionStartOffset().isEmpty() ? "aborted by hand ok" : "still open at " + start);
        }
        Runtime.getRuntime().halt(0);
    }
}
