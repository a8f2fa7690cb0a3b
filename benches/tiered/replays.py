"""The loads on the tier. Each takes a broker and gives its figures by name."""

import statistics
import threading
import time

import load
from load import Topic
from tiers import TIERED

MIB = 1 << 20
BATCH = 65536
# The reader stops short of what is still local.
COLD_SHARE = 0.9


class Cold:
    """A topic of so many bytes in the tier, nowhere else and in no page cache."""

    def __init__(self, broker, partitions, mib, segment_mib):
        self.broker, self.mib = broker, mib
        self.topic = Topic(broker, partitions, **TIERED, segment_bytes=segment_mib * MIB)

    def __enter__(self):
        self.topic.__enter__()
        self.from_ms = int(time.time() * 1000)
        self.topic.run("produce", batch=BATCH, mb=int(self.mib * MIB / 1e6), conns=1)
        self.to_ms = int(time.time() * 1000)
        self.broker.wait_tiered(self.topic)
        self.forget()
        return self

    def __exit__(self, *_):
        self.topic.__exit__()

    def forget(self):
        load.forget(self.broker.remote_files())

    def start_reading(self, **options):
        # Without the broker's number: it doesn't come to rest while others write.
        return load.start("fetch", addr=self.broker.address, topic=self.topic.name, partitions=self.topic.partitions,
                          mb=int(self.mib * COLD_SHARE * MIB / 1e6), **options)


class Memory:
    """The largest resident memory that no budget holds, while the block runs."""

    def __init__(self, broker):
        self.broker, self.most, self.ended = broker, 0.0, threading.Event()
        self.thread = threading.Thread(target=self.look)

    def look(self):
        while not self.ended.wait(0.25):
            self.most = max(self.most, self.broker.own_rss_mib())

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


def replay(partitions, mib, segment_mib):
    """One consumer with the settings that clients ship reads everything."""

    def run(broker):
        counted = hasattr(broker, "requests")
        puts = broker.requests("put") + broker.requests("put_part") if counted else 0
        segments = broker.segments() if counted else 0
        with Cold(broker, partitions, mib, segment_mib) as cold:
            result = {}
            if counted:
                result["puts_per_gib"] = (broker.requests("put") + broker.requests("put_part") - puts) * 1024 / mib
            gets = broker.requests("get") if counted else 0
            with Memory(broker) as memory:
                read = load.finish(cold.start_reading())
            result |= {"mib_per_s": read["mb_per_s"] * 1e6 / MIB, "own_rss_mib": memory.most}
            if counted:
                gib, footers = read["wire_gb"] * 1e9 / (1 << 30), broker.segments() - segments
                result["gets_per_gib"] = max(0, broker.requests("get") - gets - footers) / gib
                gets = broker.requests("get")
            again = load.finish(cold.start_reading())
            result["hot_mib_per_s"] = again["mb_per_s"] * 1e6 / MIB
            if counted:
                result["hot_gets"] = broker.requests("get") - gets
            return result

    return run


def seek(partitions, mib, segment_mib, seeks):
    def run(broker):
        with Cold(broker, partitions, mib, segment_mib) as cold:
            result = {}
            for seed, by in enumerate(("offset", "time"), 1):
                cold.forget()
                result[by] = cold.topic.run("seek", by=by, seeks=seeks, seed=seed, from_ms=cold.from_ms,
                                            to_ms=cold.from_ms + int((cold.to_ms - cold.from_ms) * COLD_SHARE))
            return result

    return run


def produce_beside(mib, segment_mib, rounds, secs):
    """Writes at a fixed rate without and beside a replay, in turn; each replay reads what nobody has read yet."""
    rate = dict(conns=4, rate=300, secs=secs, batch=16384)

    def run(broker):
        alone, beside, readers, controls = [], [], [], []
        with Topic(broker, 16, **TIERED) as new:
            new.run("produce", **rate)
            for _ in range(rounds):
                with Cold(broker, 4, mib, segment_mib) as cold:
                    alone.append(new.run("produce", **rate)["latency"]["p99_ms"])
                    control = load.start("control", rate=300, secs=secs)
                    reader = cold.start_reading(secs=secs)
                    beside.append(new.run("produce", **rate)["latency"]["p99_ms"])
                    readers.append(load.finish(reader)["mb_per_s"] * 1e6 / MIB)
                    controls.append(load.finish(control)["p99_ms"])
        return {
            "alone_p99_ms": statistics.median(alone), "beside_p99_ms": statistics.median(beside),
            "p99_ratio": statistics.median(b / a for a, b in zip(alone, beside)),
            "reader_mib_per_s": statistics.median(readers), "control_p99_ms": statistics.median(controls),
        }

    return run
