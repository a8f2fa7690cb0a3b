//! What the broker used while a load ran, from `/proc/<pid>`: all its threads, until its queues are empty.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The kernel's clock tick in these files, on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;
/// A broker that used no more than this in a step is idle.
const IDLE_STEP: Duration = Duration::from_millis(200);
const IDLE_SECONDS: f64 = 0.015;
const SETTLE_MAX: Duration = Duration::from_secs(10);

/// CPU time, switches, bytes through files and memory of a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reading {
    pub user_s: f64,
    pub system_s: f64,
    pub context_switches: u64,
    pub rss_kib: u64,
    /// Bytes that went through read, write and sendfile on anything but a plain socket read.
    pub file_bytes: u64,
}

impl Reading {
    /// Zeros for a process that is gone or not named.
    pub fn of(pid: u32) -> Self {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The command's name may hold spaces.
        let fields: Vec<&str> = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
        let seconds =
            |at: usize| fields.get(at).and_then(|ticks| ticks.parse().ok()).map_or(0.0, |t: f64| t / TICKS_PER_SECOND);
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        Self {
            user_s: seconds(11),
            system_s: seconds(12),
            context_switches: context_switches(pid),
            rss_kib: number(&status, "VmRSS:"),
            file_bytes: file_bytes(pid),
        }
    }

    pub fn cpu_s(&self) -> f64 {
        self.user_s + self.system_s
    }
}

fn file_bytes(pid: u32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    number(&io, "rchar:") + number(&io, "wchar:")
}

fn context_switches(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let statuses = tasks.map(|task| fs::read_to_string(task.path().join("status")).unwrap_or_default());
    statuses.map(|s| number(&s, "voluntary_ctxt_switches:") + number(&s, "nonvoluntary_ctxt_switches:")).sum()
}

fn number(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Descriptors a process has open.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// A measurement in progress.
pub struct Meter {
    pid: u32,
    begun: Instant,
    before: Reading,
    own_before: f64,
}

/// What went through.
#[derive(Debug, Clone, Copy, Default)]
pub struct Volume {
    pub requests: u64,
    pub records: u64,
    pub wire_bytes: u64,
    pub payload_bytes: u64,
}

impl Meter {
    pub fn start(pid: u32) -> Self {
        let own_before = Reading::of(std::process::id()).cpu_s();
        Self { pid, begun: Instant::now(), before: Reading::of(pid), own_before }
    }

    /// Ends it: the load took `wall` (from the start till now without it), and the broker may need longer.
    pub fn finish(self, wall: Option<Duration>, volume: Volume) -> Value {
        let wall_s = wall.unwrap_or_else(|| self.begun.elapsed()).as_secs_f64();
        let at_end = Reading::of(self.pid);
        let own_s = Reading::of(std::process::id()).cpu_s() - self.own_before;
        let settled = settle(self.pid);
        let (user_s, system_s) = (settled.user_s - self.before.user_s, settled.system_s - self.before.system_s);
        let cpu_s = user_s + system_s;
        let (wire_gb, payload_gb) = (volume.wire_bytes as f64 / 1e9, volume.payload_bytes as f64 / 1e9);
        let file_bytes = at_end.file_bytes.saturating_sub(self.before.file_bytes) as f64;
        let switches = at_end.context_switches.saturating_sub(self.before.context_switches) as f64;
        json!({
            "wall_s": wall_s, "requests": volume.requests, "records": volume.records, "wire_gb": wire_gb,
            "mb_per_s": wire_gb * 1e3 / wall_s, "requests_per_s": volume.requests as f64 / wall_s,
            "cpu_user_s": user_s, "cpu_system_s": system_s, "cpu_s_per_gb": cpu_s / wire_gb,
            "cpu_s_per_payload_gb": cpu_s / payload_gb, "cpu_us_per_request": cpu_s * 1e6 / volume.requests as f64,
            "context_switches_per_request": switches / volume.requests as f64, "rss_mib": at_end.rss_kib as f64 / 1024.0,
            "loadgen_cpu_s": own_s, "cpu_over_loadgen": cpu_s / own_s,
            "file_bytes_per_wire_byte": file_bytes / volume.wire_bytes as f64,
        })
    }
}

fn settle(pid: u32) -> Reading {
    let deadline = Instant::now() + SETTLE_MAX;
    let mut last = Reading::of(pid);
    while Instant::now() < deadline {
        std::thread::sleep(IDLE_STEP);
        let now = Reading::of(pid);
        if now.cpu_s() - last.cpu_s() <= IDLE_SECONDS {
            return now;
        }
        last = now;
    }
    last
}
