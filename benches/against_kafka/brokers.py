"""The two brokers: started, stopped and killed in the same way, with their shipped settings and tiering off."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEER = ROOT / "protocol-tests/peers/kafka"
TERRACE = ROOT / "target/release/terrace"


def wait_port(port):
    for _ in range(1200):
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nobody listens on {port}")


def rss_mib(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


class Broker:
    """One broker with its data in a folder of its own, which outlives it until the run ends."""

    def __init__(self, folder, port, settings=None):
        self.folder, self.port, self.settings = folder / self.name, port, settings or {}
        self.address = f"127.0.0.1:{port}"
        self.folder.mkdir(parents=True)
        self.process = None

    def start(self):
        self.launch()
        wait_port(self.port)
        return self

    def wait_gone(self):
        self.process.wait(120)
        self.process = None

    def terminate(self):
        """A clean stop; seconds it took."""
        begun = time.monotonic()
        os.kill(self.pid, signal.SIGTERM)
        self.wait_gone()
        return time.monotonic() - begun

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        self.wait_gone()

    def retire(self):
        """Ends it and gives its space back. Its names go with the whole run: for minutes, an ext4 without a journal makes
        every new file step over the inodes of those that were removed, and the next broker would pay for them."""
        if self.process:
            self.kill()
        subprocess.run(["find", str(self.folder), "-type", "f", "-size", "+15", "-exec", "truncate", "-s", "0", "{}", "+"],
                       check=True)


class Terrace(Broker):
    name = "terrace"

    def launch(self):
        settings = {
            "terrace.data.dir": self.folder / "data",
            "listeners": f"PLAINTEXT://{self.address}",
            "admin.listeners": f"http://127.0.0.1:{self.port + 1}",
            "remote.log.storage.system.enable": "false",
        } | self.settings
        overrides = [word for key, value in settings.items() for word in ("--override", f"{key}={value}")]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen([TERRACE, "start", *overrides], stdout=log, stderr=log)
        self.pid = self.process.pid

    def log_dir(self):
        return self.folder / "data/log"

    def metric(self, name, labels=""):
        """The sum of a metric's series whose labels have `labels` among them."""
        page = urllib.request.urlopen(f"http://127.0.0.1:{self.port + 1}/metrics").read().decode()
        series = re.findall(rf"^{name}(?:{{([^}}]*)}})? (\S+)$", page, re.M)
        return sum(float(value) for found, value in series if labels in found)

    def own_rss_mib(self):
        """Resident memory less what the budgets hold at this moment."""
        return rss_mib(self.pid) - self.metric("terrace_memory_budget_held_bytes") / (1 << 20)


class Kafka(Broker):
    """Heap and collector as Kafka's own start script sets them."""

    name = "kafka"
    JVM = ("-Xmx1G -Xms1G -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 "
           "-XX:+ExplicitGCInvokesConcurrent -Djava.awt.headless=true").split()

    def __init__(self, folder, port, settings=None):
        super().__init__(folder, port, settings)
        peers = pathlib.Path(os.environ.get("TERRACE_PEERS_DIR", ROOT / "target/peers"))
        self.java = ["java", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                     f"-Dlog4j2.configurationFile={peers}/kafka/log4j2.properties"]
        self.classes = ["-cp", f"{peers}/kafka/libs/*"]
        self.properties = self.folder / "server.properties"
        settings = {
            "process.roles": "broker,controller", "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{port + 1}",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{port + 1}",
            "advertised.listeners": f"PLAINTEXT://{self.address}", "controller.listener.names": "CONTROLLER",
            "log.dirs": self.log_dir(), "offsets.topic.replication.factor": 1,
            "transaction.state.log.replication.factor": 1, "transaction.state.log.min.isr": 1,
        } | self.settings
        self.properties.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        subprocess.run([*self.java, *self.classes, "kafka.tools.StorageTool", "format", "-t", "7H81bT8PQkmbRHQFKKXctw",
                        "-c", self.properties], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def launch(self):
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen([*self.java, *self.JVM, *self.classes, "kafka.Kafka", self.properties],
                                            stdout=log, stderr=log)
        self.pid = self.process.pid

    def log_dir(self):
        return self.folder / "data"

    def own_rss_mib(self):
        return rss_mib(self.pid)


def tool(*words):
    """One of Kafka's own tools, with both compilers: the client must not be the bottleneck."""
    done = subprocess.run([PEER, *map(str, words)], capture_output=True, text=True, env=os.environ | {"KAFKA_TOOL_JIT": "4"})
    if done.returncode:
        raise RuntimeError(f"{words}: {done.stdout}{done.stderr}")
    return done.stdout
