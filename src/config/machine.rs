//! What the defaults depend on: memory, descriptors, volumes and name of this machine. Nothing here fails; where the
//! machine says nothing a cautious figure stands.

use std::path::Path;

use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Memory that this process may use: the machine's, or the control group's limit if that is lower.
pub fn memory_bytes() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = info
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
        .map_or(2 << 30, |kib| kib * 1024);
    let limit = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .into_iter()
        .filter_map(limit)
        .fold(total, u64::min)
}

/// Raises the number of descriptors that this process may open to what the system allows it.
pub fn raise_open_files() {
    let limits = getrlimit(Resource::Nofile);
    // Where the system refuses, the limit stays as it was, and `open_files_max` tells it.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, maximum: limits.maximum });
}

/// Descriptors that this process may open.
pub fn open_files_max() -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = |line: &str| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse::<u64>().ok();
    limits.lines().find_map(soft).unwrap_or(1024)
}

/// Does a socket get a send buffer of so many bytes when it asks for it? The kernel cuts down without a word.
pub fn grants_send_buffer(bytes: u32) -> bool {
    let granted = || {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).ok()?;
        sockopt::set_socket_send_buffer_size(&socket, bytes as usize).ok()?;
        sockopt::socket_send_buffer_size(&socket).ok()
    };
    // Linux reserves as much again for its own use and tells both together.
    let told = if cfg!(target_os = "linux") { 2 * bytes as usize } else { bytes as usize };
    granted().is_some_and(|granted| granted >= told)
}

/// Size of the volume on which `path` is or will be.
pub fn volume_bytes(path: &Path) -> u64 {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let exists = path.ancestors().find_map(|ancestor| rustix::fs::statvfs(ancestor).ok());
    exists.map_or(0, |volume| volume.f_blocks.saturating_mul(volume.f_frsize))
}

/// What a user without privileges may still write to the volume of `path`; `None` where the machine says nothing.
pub fn free_bytes(path: &Path) -> Option<u64> {
    rustix::fs::statvfs(path).ok().map(|volume| volume.f_bavail.saturating_mul(volume.f_frsize))
}

/// The name of this machine.
pub fn host_name() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
    let name = kernel.or_else(|| std::env::var("HOSTNAME").ok()).filter(|name| !name.is_empty());
    name.unwrap_or_else(|| "localhost".to_owned())
}
