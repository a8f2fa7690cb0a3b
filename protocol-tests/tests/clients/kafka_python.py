"""The pure Python client: another decoder of every answer."""

import sys

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

bootstrap, topic = sys.argv[1:]

admin = KafkaAdminClient(bootstrap_servers=bootstrap)
admin.create_topics([NewTopic(topic, 2, 1)])

producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", compression_type="gzip")
sent = [
    producer.send(topic, key=None if i % 5 == 0 else b"k%d" % i, value=b"v%d" % i, partition=i % 2, headers=[("h", b"x")])
    for i in range(400)
]
producer.flush()
offsets = [future.get(timeout=10).offset for future in sent]
assert offsets == [i // 2 for i in range(400)], offsets[:10]
producer.close()

consumer = KafkaConsumer(
    topic,
    bootstrap_servers=bootstrap,
    group_id=f"{topic}-group",
    auto_offset_reset="earliest",
    enable_auto_commit=False,
    consumer_timeout_ms=30_000,
)
seen = []
for record in consumer:
    seen.append(record)
    if len(seen) == 400:
        break
assert sorted(int(r.value[1:]) for r in seen) == list(range(400))
assert all(r.headers == [("h", b"x")] for r in seen) or all(list(r.headers) == [("h", b"x")] for r in seen)
consumer.commit()
assert sorted(consumer.committed(TopicPartition(topic, p)) for p in [0, 1]) == [200, 200]
assert consumer.end_offsets([TopicPartition(topic, 0)]) == {TopicPartition(topic, 0): 200}
consumer.close()
admin.close()
print("all ok")
