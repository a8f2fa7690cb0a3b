//! What the kernel says of this process. Linux only; elsewhere the samples are missing.

use super::metrics;
use super::scrape::Scrape;

/// The kernel counts CPU time for programs in hundredths of a second on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// Memory, CPU time, descriptors.
pub(super) fn collect(scrape: &mut Scrape) {
    if let Some(bytes) = resident_bytes() {
        scrape.sample(&metrics::RESIDENT, &[], bytes as f64);
    }
    if let Some(seconds) = cpu_seconds() {
        scrape.sample(&metrics::CPU, &[], seconds);
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        scrape.sample(&metrics::OPEN_FILES, &[], entries.count() as f64);
    }
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the name in parentheses and may hold blanks; user and system time are the 14th and 15th.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_all_of_it() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
        assert!(cpu_seconds().is_some());
    }
}
