"""librdkafka through confluent-kafka: what applications do with it."""

import sys
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

bootstrap, topic = sys.argv[1:]
base = {"bootstrap.servers": bootstrap}


def admin():
    client = AdminClient(base)
    client.create_topics([NewTopic(topic, 4, 1, config={"retention.ms": "-1"})])[topic].result(10)
    for _ in range(100):
        found = client.list_topics(topic, timeout=10).topics[topic]
        if found.error is None and len(found.partitions) == 4:
            break
    assert len(found.partitions) == 4, found.partitions
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    configs = client.describe_configs([resource])[resource].result(10)
    assert configs["cleanup.policy"].value == "delete"


def produce():
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
        producer = Producer(base | {"compression.type": codec, "enable.idempotence": True, "linger.ms": 5})
        failures = []
        for i in range(500):
            producer.produce(
                topic,
                key=None if i % 10 == 0 else f"{codec}-{i}",
                value=None if i % 11 == 0 and i % 10 else f"value {i} " * 20,
                partition=i % 4,
                timestamp=1_700_000_000_000 + i,
                headers=[("h", b"1"), ("h", None), ("codec", codec.encode())],
                on_delivery=lambda error, _: error and failures.append(error),
            )
        assert producer.flush(30) == 0
        assert not failures, failures[:3]


def drain(consumer, count, seconds=40):
    records, deadline = [], time.time() + seconds
    while len(records) < count and time.time() < deadline:
        for message in consumer.consume(500, 0.5):
            assert message.error() is None, message.error()
            records.append(message)
    return records


def consume():
    consumer = Consumer(base | {"group.id": f"{topic}-group", "auto.offset.reset": "earliest", "enable.auto.commit": False})
    consumer.subscribe([topic])
    records = drain(consumer, 2500)
    assert len(records) == 2500, len(records)
    codecs = {dict(r.headers())["codec"] for r in records}
    assert codecs == {b"none", b"gzip", b"snappy", b"lz4", b"zstd"}, codecs
    assert [h for h in records[0].headers()][:2] == [("h", b"1"), ("h", None)]
    assert any(r.key() is None for r in records) and any(r.value() is None for r in records)
    consumer.commit(asynchronous=False)
    assigned = consumer.assignment()
    assert len(assigned) == 4, assigned
    committed = consumer.committed(assigned, timeout=10)
    assert sorted(c.offset for c in committed) == [625] * 4, committed
    consumer.close()


def seek():
    consumer = Consumer(base | {"group.id": f"{topic}-seek", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 1, 100)])
    first = drain(consumer, 1)[0]
    assert first.offset() == 100, first.offset()
    found = consumer.offsets_for_times([TopicPartition(topic, 1, 1_700_000_000_000 + 201)], timeout=10)[0]
    consumer.assign([found])
    first = drain(consumer, 1)[0]
    assert first.timestamp()[1] >= 1_700_000_000_201 and first.offset() == found.offset
    assert consumer.get_watermark_offsets(TopicPartition(topic, 1), timeout=10) == (0, 625)
    consumer.close()


def rebalance():
    share({"group.id": f"{topic}-two", "session.timeout.ms": 6000})


def rebalance_by_consumer_protocol():
    share({"group.id": f"{topic}-three", "group.protocol": "consumer"})
    share({"group.id": f"{topic}-four", "group.protocol": "consumer", "group.remote.assignor": "range"})


def share(settings):
    settings = base | {"auto.offset.reset": "earliest"} | settings
    one, two = Consumer(settings), Consumer(settings)
    one.subscribe([topic])
    drain(one, 1)
    assert len(one.assignment()) == 4
    two.subscribe([topic])
    deadline = time.time() + 40
    while (len(one.assignment()), len(two.assignment())) != (2, 2):
        assert time.time() < deadline, (one.assignment(), two.assignment())
        one.poll(0.1)
        two.poll(0.1)
    two.close()
    while len(one.assignment()) != 4:
        assert time.time() < deadline, one.assignment()
        one.poll(0.1)
    one.close()


for step in [admin, produce, consume, seek, rebalance, rebalance_by_consumer_protocol]:
    step()
    print(step.__name__, "ok")
print("all ok")
