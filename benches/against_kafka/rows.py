"""What is compared, and what is asked of it: one entry per row of the table.

A scenario runs a load on one broker and gives its figures by name; a row takes one of them. `must` and `aim` bound the
median of the rounds' ratios (ours / Kafka's); for `absolute` rows they bound our own figure.
"""

from dataclasses import dataclass

import scenarios as s


@dataclass(frozen=True)
class Row:
    label: str
    figure: str
    must: float
    aim: float
    at_least: bool = False
    absolute: bool = False
    # A figure of the same run that tells whether a round counts, and how high it may be.
    control: str = ""
    control_max: float = 0.0


@dataclass(frozen=True)
class Scenario:
    name: str
    run: object
    rows: tuple
    # A pair of brokers for each round, because starting is what is measured; else one warm pair serves them all.
    fresh: bool = False
    # On a disk with 128 KiB of read-ahead.
    wide: bool = False
    # Only ours.
    alone: bool = False
    rounds_least: int = 1


SCENARIOS = (
    Scenario("produce-128k", s.produce(batch=131072, mb=1500), (
        Row("produce, 128 KiB batches, CPU s/GB", "cpu_s_per_gb", 0.35, 0.28),)),
    Scenario("produce-16k", s.produce(batch=16384, mb=600), (
        Row("produce, 16 KiB batches, CPU s/GB", "cpu_s_per_gb", 0.30, 0.22),)),
    Scenario("produce-lz4-full", s.produce(batch=131072, codec="lz4", mb=400, ours={"record_validation": "full"}), (
        Row("produce, lz4, record.validation=full, CPU s/GB of payload", "cpu_s_per_payload_gb", 0.60, 0.45),)),
    Scenario("produce-lz4", s.produce(batch=131072, codec="lz4", mb=400), (
        Row("produce, lz4, CPU s/GB of payload", "cpu_s_per_payload_gb", 0.20, 0.15),)),
    Scenario("produce-zstd-full", s.produce(batch=131072, codec="zstd", mb=300, ours={"record_validation": "full"}), (
        Row("produce, zstd, record.validation=full, CPU s/GB of payload", "cpu_s_per_payload_gb", 0.60, 0.45),)),
    Scenario("produce-zstd", s.produce(batch=131072, codec="zstd", mb=300), (
        Row("produce, zstd, CPU s/GB of payload", "cpu_s_per_payload_gb", 0.20, 0.15),)),
    Scenario("one-record", s.produce(record=100, batch=1, mb=8), (
        Row("one-record requests, CPU us/request", "cpu_us_per_request", 0.25, 0.15),
        Row("one-record requests, context switches/request", "context_switches_per_request", 1.0, 0.5, absolute=True))),
    Scenario("small-1000", s.produce(batch=1200, per_request=100, partitions=1000, mb=150), (
        Row("100 batches of 1.2 KiB a request, 1 000 partitions, CPU s/GB", "cpu_s_per_gb", 0.33, 0.25),), wide=True),
    Scenario("small-5000", s.produce(batch=1200, per_request=100, partitions=5000, mb=150), (
        Row("100 batches of 1.2 KiB a request, 5 000 partitions, CPU s/GB", "cpu_s_per_gb", 0.12, 0.08),
        Row("100 batches of 1.2 KiB a request, 5 000 partitions, p99 ms", "latency.p99_ms", 0.15, 0.06)), wide=True),
    Scenario("fetch-128k", s.fetch(batch=131072, partitions=16, mb=1500), (
        Row("fetch, warm, 128 KiB batches, CPU s/GB", "cpu_s_per_gb", 1.0, 0.7),)),
    Scenario("fetch-wide", s.fetch(batch=16384, partitions=1000, mb=800, per_request=16), (
        Row("fetch of 1 000 partitions, CPU s/GB", "cpu_s_per_gb", 0.25, 0.10),), wide=True),
    Scenario("fetch-16k-each", s.fetch(batch=16384, partitions=16, mb=800, partition_bytes=16384), (
        Row("fetch of 16 KiB from each of 16 partitions, CPU s/GB", "cpu_s_per_gb", 0.25, 0.10),)),
    Scenario("idle", s.idle, (
        Row("1 000 idle long polls, cores", "cores", 0.30, 0.15),)),
    Scenario("rebalance-classic", s.group("classic", groups=1, members=100, partitions=200), (
        Row("classic group of 100, one more joins, s to stable", "rebalanced_s", 1.1, 1.0),
        Row("the same, CPU s", "rebalanced_cpu_s", 0.5, 0.25))),
    Scenario("rebalance-consumer", s.group("consumer", groups=1, members=100, partitions=200), (
        Row("KIP-848 group of 100, one more joins, s to stable", "rebalanced_s", 1.1, 1.0),
        Row("the same, CPU s", "rebalanced_cpu_s", 0.5, 0.25))),
    Scenario("groups-classic", s.group("classic", groups=1000, members=1, partitions=4, beat_ms=3000), (
        Row("1 000 classic groups form, s", "formed_s", 1.1, 1.0),
        Row("the same, CPU s", "formed_cpu_s", 0.5, 0.25),
        Row("heartbeats of 2 000 members in 1 000 classic groups, cores", "heartbeat_cores", 0.5, 0.25))),
    Scenario("groups-consumer", s.group("consumer", groups=1000, members=1, partitions=4, beat_ms=3000), (
        Row("1 000 KIP-848 groups form, s", "formed_s", 1.1, 1.0),
        Row("the same, CPU s", "formed_cpu_s", 0.5, 0.25),
        Row("heartbeats of 2 000 members in 1 000 KIP-848 groups, cores", "heartbeat_cores", 0.5, 0.25))),
    Scenario("open-loop", s.open_loop, (
        Row("acknowledgement p99.9 ms at 30 % of Kafka's ceiling", "latency.p99.9_ms", 0.5, 0.1,
            control="control.p99.9_ms", control_max=5.0),), rounds_least=10),
    Scenario("beside-cold", s.beside_cold_reader, (
        Row("produce p99 ms beside a cold catch-up reader", "latency.p99_ms", 0.4, 0.2),
        Row("the reader beside them, MB/s", "reader.mb_per_s", 0.8, 1.0, at_least=True))),
    Scenario("e2e-java", s.end_to_end_java, (
        Row("end to end p50 ms, Java client, linger 0", "p50_ms", 0.7, 0.4),
        Row("end to end p99 ms, Java client, linger 0", "p99_ms", 0.7, 0.4))),
    Scenario("e2e-librdkafka", s.end_to_end_librdkafka, (
        Row("end to end p50 ms, librdkafka, linger 0", "p50_ms", 0.7, 0.4),
        Row("end to end p99 ms, librdkafka, linger 0", "p99_ms", 0.7, 0.4))),
    Scenario("rss-16", s.memory(partitions=16, conns=16), (
        Row("own memory after load, 16 partitions, MiB", "own_rss_mib", 40, 20, absolute=True),), fresh=True),
    Scenario("rss-1000", s.memory(partitions=1000, conns=1000), (
        Row("own memory after load, 1 000 partitions and connections, MiB", "own_rss_mib", 100, 50, absolute=True),),
        fresh=True),
    Scenario("start", s.first_start, (
        Row("exec to the first acknowledged record, s", "first_ack_s", 0.05, 0.05),
        Row("the same, ours alone, s", "first_ack_s", 0.150, 0.030, absolute=True)), fresh=True),
    Scenario("create-1000", s.create(1000), (
        Row("1 000 partitions created and writable, s", "writable_s", 0.10, 0.03),), fresh=True),
    Scenario("create-5000", s.create(5000), (
        Row("5 000 partitions created and writable, s", "writable_s", 0.05, 0.01),), fresh=True),
    Scenario("create-10000", s.create(10000), (
        Row("10 000 partitions created and writable, s", "writable_s", 1.0, 0.3, absolute=True),), fresh=True, alone=True),
    Scenario("restart-1000", s.restart(partitions=1000, mb=2000), (
        Row("kill -9 to the last of 1 000 partitions served, s", "killed.all_partitions_s", 1 / 10, 1 / 35),
        Row("clean stop, start to the last of 1 000 partitions served, s", "stopped.all_partitions_s", 1 / 20, 1 / 50)),
        fresh=True),
    Scenario("restart-5000", s.restart(partitions=5000, mb=1000), (
        Row("kill -9 to the last of 5 000 partitions served, s", "killed.all_partitions_s", 1 / 30, 1 / 60),), fresh=True),
    Scenario("produce-10000", s.many_against_few, (
        Row("own produce CPU per GB, 10 000 partitions against 16", "many_over_few", 1.5, 1.2, absolute=True),),
        fresh=True, alone=True),
    Scenario("sync", s.produce(batch=16384, mb=300, partitions=16, conns=16, inflight=1, both={"flush_messages": 1}), (
        Row("flush.messages=1, MB/s", "mb_per_s", 5.0, 20.0, at_least=True),)),
    Scenario("java-clients", s.java_clients, (
        Row("Java client, produce, MB/s", "produce_mb_per_s", 1.0, 1.0, at_least=True),
        Row("Java client, fetch, MB/s", "fetch_mb_per_s", 1.0, 1.0, at_least=True))),
    Scenario("librdkafka-clients", s.librdkafka_clients, (
        Row("librdkafka (kcat), produce, MB/s", "produce_mb_per_s", 1.0, 1.0, at_least=True),
        Row("librdkafka (kcat), consume, MB/s", "consume_mb_per_s", 1.0, 1.0, at_least=True))),
    Scenario("backlog", s.backlog(records=100_000_000), (
        Row("backlog of 10^8 records: produce rate against the empty broker", "produce_ratio", 0.9, 0.95,
            at_least=True, absolute=True),
        Row("backlog of 10^8 records: produce p99 against the empty broker", "p99_ratio", 1.1, 1.05, absolute=True),
        Row("backlog of 10^8 records: tail p99 while another reads all, against the empty broker", "tail_p99_ratio",
            1.1, 1.05, absolute=True),
        Row("backlog of 10^8 records: catch-up rate, its last tenth against its first", "catch_up_ratio", 0.9, 0.95,
            at_least=True, absolute=True)), fresh=True, alone=True),
)
