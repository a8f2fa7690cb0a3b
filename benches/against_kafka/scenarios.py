"""The loads. Each takes a broker and gives its figures by name; names with a dot lie in a nested result."""

import json
import re
import statistics
import subprocess
import tempfile
import time

import load
from brokers import ROOT, tool
from load import Topic

# What Kafka answered in a closed loop, requests per second: the open loop asks for 30 % of it.
_ceiling = {}


def produce(partitions=16, ours=None, both=None, **options):
    """`ours` is topic configuration that Kafka does not know, `both` what both get."""

    def run(broker):
        config = (both or {}) | ((ours or {}) if broker.name == "terrace" else {})
        with Topic(broker, partitions, **config) as topic:
            return topic.run("produce", **options)

    return run


def fetch(partitions, batch, mb, per_request=1, **appetite):
    def run(broker):
        with Topic(broker, partitions) as topic:
            topic.run("produce", batch=batch, mb=mb, per_request=per_request)
            return topic.run("fetch", **appetite)

    return run


def idle(broker):
    with Topic(broker, 16) as topic:
        return topic.run("idle", conns=1000)


def group(protocol, groups, members, partitions, **options):
    """Members join at once, one more comes to each group, then there are only heartbeats."""

    def run(broker):
        with Topic(broker, partitions) as topic:
            return topic.run("group", protocol=protocol, groups=groups, members=members, **options)

    return run


def open_loop(broker):
    """4 KiB batches over 16 partitions; the control loop runs beside it."""
    if not _ceiling:
        raise RuntimeError("the ceiling is not measured yet")
    with Topic(broker, 16) as topic:
        control = load.start("control", rate=500, secs=20)
        result = topic.run("produce", conns=4, rate=0.3 * _ceiling["requests_per_s"], secs=20, batch=4096)
        return result | {"control": load.finish(control)}


def measure_ceiling(kafka):
    with Topic(kafka, 16) as topic:
        _ceiling.update(topic.run("produce", conns=4, batch=4096, mb=300))


def beside_cold_reader(broker):
    """Six gigabytes that nobody holds in memory are read at full speed while others write at a fixed rate. Both end after
    five seconds: writes that nobody reads beside would say nothing."""
    with Topic(broker, 4) as old, Topic(broker, 16) as new:
        old.run("produce", batch=131072, mb=6000)
        load.forget(old.files())
        # Without the broker's number: it doesn't come to rest while others write.
        reader = load.start("fetch", addr=broker.address, topic=old.name, partitions=old.partitions, conns=2, secs=5)
        result = new.run("produce", conns=4, rate=300, secs=5, batch=16384)
        return result | {"reader": load.finish(reader)}


def _quantiles(milliseconds):
    ordered = sorted(milliseconds)
    return {"p50_ms": statistics.median(ordered), "p99_ms": ordered[int(len(ordered) * 0.99)]}


def end_to_end_java(broker):
    """Kafka's EndToEndLatency: one record at a time."""
    with Topic(broker, 1) as topic:
        out = tool("tool", "org.apache.kafka.tools.EndToEndLatency", "--bootstrap-server", broker.address, "--topic",
                   topic.name, "--num-records", 5000, "--producer-acks", "all", "--record-size", 1024)
    found = re.search(r"Percentiles: 50th = (\d+), 99th = (\d+)", out)
    mean = float(re.search(r"Avg latency: ([\d.]+)", out)[1])
    # The tool prints whole milliseconds; below two of them its mean tells more than its median.
    p50, p99 = float(found[1]), float(found[2])
    return {"p50_ms": mean if p50 < 2 else p50, "p99_ms": max(p99, mean)}


def end_to_end_librdkafka(broker):
    with Topic(broker, 1) as topic:
        python = ROOT / "target/peers/python/bin/python"
        out = subprocess.run([python, ROOT / "benches/against_kafka/librdkafka_latency.py", broker.address, topic.name],
                             capture_output=True, text=True, check=True).stdout
    return _quantiles(json.loads(out))


def memory(partitions, conns):
    def run(broker):
        with Topic(broker, partitions) as topic:
            holder = load.start("hold", broker, conns=conns)
            holder.stdout.readline()
            topic.run("produce", mb=1000, per_request=min(16, partitions))
            topic.run("fetch")
            result = {"own_rss_mib": broker.own_rss_mib()}
            holder.communicate()
            return result

    return run


def _start_ready(broker, topic):
    ready = topic.start("ready") if broker.process else load.start(
        "ready", addr=broker.address, topic=topic.name, partitions=topic.partitions)
    broker.launch()
    return load.finish(ready)


def first_start(broker):
    """A broker with one empty topic, stopped cleanly."""
    topic = Topic(broker, 1)
    topic.__enter__()
    broker.terminate()
    return _start_ready(broker, topic)


def create(partitions):
    def run(broker):
        # It stays: what a deletion leaves behind would slow down the next broker.
        return Topic(broker, partitions).__enter__().created

    return run


def restart(partitions, mb):
    def run(broker):
        topic = Topic(broker, partitions)
        topic.__enter__()
        topic.run("produce", mb=mb, per_request=100, batch=16384)
        broker.kill()
        killed = _start_ready(broker, topic)
        stop_s = broker.terminate()
        stopped = _start_ready(broker, topic)
        return {"killed": killed, "stopped": stopped, "stop_s": stop_s}

    return run


def many_against_few(broker):
    figures = []
    for partitions in (16, 10_000):
        with Topic(broker, partitions) as topic:
            runs = [topic.run("produce", batch=16384, mb=500, per_request=16)["cpu_s_per_gb"] for _ in range(3)]
            figures.append(statistics.median(runs))
    return {"many_over_few": figures[1] / figures[0], "few": figures[0], "many": figures[1]}


def java_clients(broker, mb=500):
    records = mb * 1_000_000 // 1024
    with Topic(broker, 16) as topic:
        out = tool("producer-perf", "--bootstrap-server", broker.address, "--topic", topic.name, "--num-records", records,
                   "--record-size", 1024, "--throughput", -1, "--producer-props", "linger.ms=5")
        produced = float(re.findall(r"\(([\d.]+) MB/sec\)", out)[-1])
        out = tool("consumer-perf", "--bootstrap-server", broker.address, "--topic", topic.name, "--num-records", records,
                   "--timeout", 60000)
        row = [field.strip() for field in out.strip().splitlines()[-1].split(",")]
    # The fetch rate leaves out the time that the group took to form.
    return {"produce_mb_per_s": produced, "consume_mb_per_s": float(row[3]), "fetch_mb_per_s": float(row[8])}


def librdkafka_clients(broker, mb=400):
    count = mb * 1_000_000 // 1024
    with Topic(broker, 4) as topic, tempfile.NamedTemporaryFile(dir=ROOT / "target") as lines:
        line = b"0123456789abcdef" * 63 + b"0123456789abcde\n"
        for _ in range(count // 1000):
            lines.write(line * 1000)
        lines.flush()
        begun = time.monotonic()
        subprocess.run(["kcat", "-b", broker.address, "-P", "-t", topic.name, "-l", lines.name, "-X", "linger.ms=5"],
                       check=True)
        produced = time.monotonic() - begun
        begun = time.monotonic()
        subprocess.run(["kcat", "-b", broker.address, "-C", "-t", topic.name, "-o", "beginning", "-e", "-q"], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        consumed = time.monotonic() - begun
    return {"produce_mb_per_s": mb / produced, "consume_mb_per_s": mb / consumed}


def backlog(records):
    """Small records in large compressed batches; the same measured before and behind them."""
    tail_rate = dict(rate=300, secs=15, batch=4096)

    def run(broker):
        def small(mb):
            with Topic(broker, 4) as topic:
                return topic.run("produce", batch=16384, mb=mb)

        def tail():
            with Topic(broker, 1) as topic:
                return topic.run("tail", **tail_rate)["end_to_end"]["p99_ms"]

        produce_before, tail_before = small(500), tail()
        with Topic(broker, 4, segment_bytes=64 << 20) as old:
            done = 0
            while done < records:
                done += old.run("produce", record=20, batch=1 << 20, codec="lz4", mb=200)["records"]
            first = old.run("fetch", mb=100)["mb_per_s"]
            produce_after = small(500)
            reader = old.start("fetch")
            tail_after = tail()
            whole = load.finish(reader)["mb_per_s"]
        return {
            "produce_ratio": produce_after["mb_per_s"] / produce_before["mb_per_s"],
            "p99_ratio": produce_after["latency"]["p99_ms"] / produce_before["latency"]["p99_ms"],
            "tail_p99_ratio": tail_after / tail_before, "catch_up_ratio": whole / first, "records": done,
        }

    return run
