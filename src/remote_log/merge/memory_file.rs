//! Bytes as a file that nobody writes to.

use std::io;
use std::os::fd::BorrowedFd;

use terrace_tiering::platform::fs::File;

/// See the module.
#[derive(Debug)]
pub(in crate::remote_log) struct MemoryFile(Vec<u8>);

impl MemoryFile {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl File for MemoryFile {
    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let from = usize::try_from(position).unwrap_or(usize::MAX).min(self.0.len());
        let count = buffer.len().min(self.0.len() - from);
        buffer[..count].copy_from_slice(&self.0[from..from + count]);
        Ok(count)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
