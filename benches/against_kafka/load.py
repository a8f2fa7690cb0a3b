"""The load generator (`benches/loadgen`) as Python calls."""

import itertools
import json
import os
import subprocess

from brokers import ROOT

BINARY = ROOT / "target/release/loadgen"
_numbers = itertools.count()


def build():
    subprocess.run(["cargo", "build", "--release", "--locked", "-q", "-p", "terrace-loadgen"], cwd=ROOT, check=True)
    os.replace(ROOT / "target/release/terrace-loadgen", BINARY)


def _words(command, options):
    words = [str(BINARY), command]
    for key, value in options.items():
        name = "--" + key.replace("_", "-")
        for one in value if isinstance(value, list) else [value]:
            words += [name] if one is True else [f"{name}={one}"]
    return words


def start(command, broker=None, **options):
    """Begins a command in the background."""
    if broker:
        options |= {"addr": broker.address, "pid": broker.pid}
    return subprocess.Popen(_words(command, options), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def finish(process):
    """Its result."""
    out, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{process.args} ended with {process.returncode}")
    return json.loads(out.splitlines()[-1])


def run(command, broker=None, **options):
    return finish(start(command, broker, **options))


def forget(files):
    subprocess.run([BINARY, "forget", *map(str, files)], check=True, stdout=subprocess.DEVNULL)


class Topic:
    """A topic that lives as long as the block; its files go at once when it is deleted."""

    def __init__(self, broker, partitions, **config):
        self.broker, self.partitions = broker, partitions
        self.name = f"bench-{next(_numbers)}"
        self.config = {"file.delete.delay.ms": 1000} | {key.replace("_", "."): value for key, value in config.items()}

    def __enter__(self):
        config = [f"{key}={value}" for key, value in self.config.items()]
        self.created = self.run("create", config=config)
        return self

    def __exit__(self, *_):
        self.run("delete")

    def run(self, command, **options):
        return finish(self.start(command, **options))

    def start(self, command, **options):
        return start(command, self.broker, topic=self.name, partitions=self.partitions, **options)

    def files(self):
        return sorted(self.broker.log_dir().glob(f"{self.name}-*/*.log"))
