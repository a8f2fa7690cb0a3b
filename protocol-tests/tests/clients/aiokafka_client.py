"""The asyncio client: produce, transactions, a group, seek by time."""

import asyncio
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

bootstrap, topic = sys.argv[1:]


async def produce():
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, compression_type="gzip") as producer:
        for i in range(300):
            await producer.send(topic, key=b"k%d" % (i % 20), value=b"v%d" % i, headers=[("h", b"1")], timestamp_ms=1_700_000_000_000 + i)
        await producer.flush()


async def transactions():
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"{topic}-id") as producer:
        for round in range(3):
            await producer.begin_transaction()
            for i in range(10):
                await producer.send(topic, value=b"t%d-%d" % (round, i))
            await (producer.abort_transaction() if round == 1 else producer.commit_transaction())


async def consume():
    group = f"{topic}-group"
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False,
        isolation_level="read_committed",
    )
    async with consumer:
        values = set()
        while len(values) < 320:
            record = await asyncio.wait_for(consumer.getone(), 30)
            assert record.value not in values, record
            values.add(record.value)
        await consumer.commit()
        assert len(consumer.assignment()) == 2
        for partition in consumer.assignment():
            assert await consumer.committed(partition) is not None
        found = await consumer.offsets_for_times({partition: 1_700_000_000_100 for partition in consumer.assignment()})
        assert all(at.timestamp >= 1_700_000_000_100 for at in found.values()), found


async def main():
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 2, 1)])
    await produce()
    await transactions()
    await consume()
    assert topic in await admin.list_topics()
    await admin.close()
    print("all ok")


asyncio.run(main())
