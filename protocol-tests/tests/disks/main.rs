//! Disks that are slow and disks that break, under the real process.

mod breaks;
mod cold;
mod moves;
mod slow;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use terrace_protocol_tests::broker::{Broker, Options};

/// The faults that the broker's disks have; see `platform/fs/faulty.rs`.
struct Disks {
    _folder: TempDir,
    faults: PathBuf,
}

impl Disks {
    fn new() -> Self {
        let folder = TempDir::new().expect("a temporary directory");
        let faults = folder.path().join("faults");
        Self { _folder: folder, faults }
    }

    fn options(&self) -> Options {
        Options::new()
            .with("remote.log.storage.system.enable", false)
            .with("offsets.topic.num.partitions", 1)
            .env("TERRACE_DISK_FAULTS", self.faults.display())
    }

    fn slow(&self, path: &Path, milliseconds: u64) {
        self.say(&format!("slow {milliseconds} {}\n", path.display()));
    }

    fn cold(&self, path: &Path, wait: Duration) {
        self.say(&format!("cold {} {}\n", wait.as_millis(), path.display()));
    }

    fn fail(&self, paths: &[&Path]) {
        self.say(&paths.iter().map(|path| format!("fail {}\n", path.display())).collect::<String>());
    }

    fn mend(&self) {
        self.say("");
    }

    fn say(&self, lines: &str) {
        std::fs::write(&self.faults, lines).expect("the test's own file");
    }
}

/// Waits for a line with `words` in what the broker printed since it was last asked.
fn await_line(broker: &Broker, words: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !broker.output().iter().any(|line| line.contains(words)) {
        assert!(Instant::now() < deadline, "the broker says \"{words}\"");
        // Lines come through a pipe, behind the answers.
        std::thread::sleep(Duration::from_millis(20));
    }
}
