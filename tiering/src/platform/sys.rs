//! System calls that `rustix` lacks. The only unsafe code of the project.
#![cfg(target_os = "linux")]
#![expect(unsafe_code, reason = "raw system calls")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::LazyLock;

/// The same number on every architecture, as of all system calls since 5.1.
const SYS_CACHESTAT: libc::c_long = 451;

#[repr(C)]
struct Range {
    position: u64,
    len: u64,
}

#[repr(C)]
#[derive(Default)]
struct CacheStat {
    cached: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// Is every page of a range of a file in the page cache? Those count too that are still being read (Linux 6.5).
pub fn is_cached(file: BorrowedFd<'_>, position: u64, len: u64) -> io::Result<bool> {
    let range = Range { position, len };
    let mut stat = CacheStat::default();
    // SAFETY: the descriptor is open while it is borrowed. The kernel reads one `Range` and writes one `CacheStat`, both
    // laid out as it documents them and alive until the call returns; it keeps neither.
    let result =
        unsafe { libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), &raw const range, &raw mut stat, 0 as libc::c_uint) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let page = page_bytes();
    Ok(stat.cached >= (position + len).div_ceil(page) - position / page)
}

/// Has the dirty pages of a range written and waits for them, those that are being written before too. What it reports as
/// failed no later sync reports again. It makes nothing durable: sizes, blocks and the disk's own cache are left out.
pub fn write_out(file: BorrowedFd<'_>, position: u64, len: u64) -> io::Result<()> {
    let range = |bytes: u64| libc::off64_t::try_from(bytes).map_err(io::Error::other);
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: the descriptor is open while it is borrowed; the rest are numbers.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), range(position)?, range(len)?, flags) };
    if result != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Has the dirty pages of a range written, and waits for nothing. As [`write_out`] it makes nothing durable.
pub fn begin_write_out(file: BorrowedFd<'_>, position: u64, len: u64) -> io::Result<()> {
    let range = |bytes: u64| libc::off64_t::try_from(bytes).map_err(io::Error::other);
    // SAFETY: the descriptor is open while it is borrowed; the rest are numbers.
    let result =
        unsafe { libc::sync_file_range(file.as_raw_fd(), range(position)?, range(len)?, libc::SYNC_FILE_RANGE_WRITE) };
    if result != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn page_bytes() -> u64 {
    static BYTES: LazyLock<u64> = LazyLock::new(|| {
        // SAFETY: it takes a number and returns one.
        u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
    });
    *BYTES
}
