"""One record at a time from a producer to a consumer of librdkafka; prints the milliseconds each took, as JSON."""

import json
import sys
import time

from confluent_kafka import Consumer, Producer, TopicPartition

address, topic = sys.argv[1:]
producer = Producer({"bootstrap.servers": address, "linger.ms": 0, "acks": "all"})
consumer = Consumer({"bootstrap.servers": address, "group.id": "latency", "enable.auto.commit": False})
consumer.assign([TopicPartition(topic, 0, 0)])
payload, took = b"x" * 1024, []
for number in range(3500):
    begun = time.perf_counter()
    producer.produce(topic, payload, partition=0)
    producer.poll(0)
    message = None
    while message is None or message.error():
        message = consumer.poll(1.0)
    # The first ones fetch metadata and warm up.
    if number >= 500:
        took.append((time.perf_counter() - begun) * 1000)
print(json.dumps(took))
