"""Three brokers whose sealed segments go to a second tier: ours with a directory, ours with MinIO, Kafka with the storage
manager of its own tests. All copy at once, look for work every second and keep nothing sealed on their own disk."""

import os
import pathlib
import subprocess
import time

from brokers import ROOT, Kafka, Terrace

MINIO = ROOT / "protocol-tests/peers/minio"
EVERY_SECOND = {"remote.log.manager.task.interval.ms": 1000, "log.retention.check.interval.ms": 1000}
# What makes a topic go to the tier and leave the local disk.
TIERED = {"remote.storage.enable": "true", "local.retention.bytes": 1, "retention.ms": -1,
          "message.timestamp.type": "LogAppendTime"}
TIERED_WITHIN_S = 120


class Tiered:
    """What the three have in common beside being brokers."""

    def wait_tiered(self, topic):
        """Until only the segment that is still written to is local."""
        folders = [self.log_dir() / f"{topic.name}-{number}" for number in range(topic.partitions)]
        until = time.monotonic() + TIERED_WITHIN_S
        while any(len(list(folder.glob("*.log*"))) > 1 for folder in folders):
            if time.monotonic() > until:
                raise RuntimeError(f"{self.name}: {topic.name} is still local after {TIERED_WITHIN_S} s")
            time.sleep(0.2)

    def remote_files(self):
        return [path for path in self.remote_dir().rglob("*") if path.is_file()]


class TerraceOverDirectory(Tiered, Terrace):
    name = "dir"

    def __init__(self, folder, port, settings=None):
        uri = {"remote.log.storage.system.enable": "true", "remote.storage.uri": f"file://{folder / self.name}/remote"}
        super().__init__(folder, port, uri | EVERY_SECOND | (settings or {}))

    def remote_dir(self):
        return self.folder / "remote"

    def requests(self, op):
        return self.metric("terrace_remote_requests_total", f'op="{op}"')

    def segments(self):
        return sum("seg" in path.parts for path in self.remote_files())


class TerraceOverMinio(TerraceOverDirectory):
    name = "minio"

    def __init__(self, folder, port, settings=None):
        self.minio_home = folder / "minio-peer"
        self.minio_port = port + 2
        bucket = {"remote.storage.uri": "s3://bench/data", "remote.storage.endpoint": f"http://127.0.0.1:{self.minio_port}",
                  "remote.storage.region": "us-east-1"}
        super().__init__(folder, port, bucket | (settings or {}))

    def peer(self, *words):
        env = {"MINIO_PEER_HOME": str(self.minio_home), "MINIO_PEER_PORT": str(self.minio_port),
               "TERRACE_PEER_OWNER": str(os.getpid())}
        subprocess.run([MINIO, *words], check=True, stdout=subprocess.DEVNULL, env=os.environ | env)

    def start(self):
        self.minio_home.mkdir(parents=True, exist_ok=True)
        self.peer("start")
        self.peer("bucket", "bench")
        os.environ.update(AWS_ACCESS_KEY_ID="minioadmin", AWS_SECRET_ACCESS_KEY="minioadmin")
        return super().start()

    def retire(self):
        super().retire()
        self.peer("stop")

    def remote_dir(self):
        return self.minio_home / "data"

    def segments(self):
        # MinIO keeps an object as a folder with its description in it.
        return sum("seg" in path.parts and path.name == "xl.meta" for path in self.remote_files())


class TieredKafka(Tiered, Kafka):
    name = "kafka"

    def __init__(self, folder, port, settings=None):
        tier = {
            "remote.log.storage.system.enable": "true", "remote.log.metadata.manager.listener.name": "PLAINTEXT",
            "remote.log.storage.manager.class.name": "org.apache.kafka.server.log.remote.storage.LocalTieredStorage",
            "rlmm.config.remote.log.metadata.topic.replication.factor": 1, "rsm.config.dir": folder / self.name / "remote",
        }
        super().__init__(folder, port, tier | EVERY_SECOND | (settings or {}))

    def remote_dir(self):
        return pathlib.Path(self.folder / "remote")
