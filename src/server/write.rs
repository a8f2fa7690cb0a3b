//! Writing answers: what is in memory in one write, file ranges by `sendfile`, and an end for a peer that does not read.

use std::io::{self, IoSlice};
#[cfg(target_os = "linux")]
use std::os::fd::AsFd;
use std::time::Duration;

#[cfg(target_os = "linux")]
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::api::answer::{Outgoing, Piece};
use crate::log::copies::{COPIED_BYTES_MAX, Copies};
use crate::log::view::FileRange;
use crate::partition::disk_reads::{self, DiskReads};

/// A peer that takes nothing for so long is gone.
const PEER_READS_WITHIN: Duration = Duration::from_secs(30);
/// One call of `sendfile` holds its worker no longer than this takes.
const SENDFILE_BYTES_MAX: u64 = disk_reads::PIECE_BYTES;
/// What is looked for in the page cache at once, and sent by another thread when it isn't there: usually all that an
/// answer has of a partition, so that a catch-up reader passes from a worker to the other thread once.
#[cfg(target_os = "linux")]
const LOOKED_AT_BYTES: u64 = 1 << 20;
/// What asks a socket that seems to be full whether it is.
#[cfg(target_os = "linux")]
const PROBE_BYTES: usize = 64 << 10;
/// Parts of memory that one call sends.
const PARTS_MAX: usize = 64;
/// Where there is no descriptor to send from.
const READ_BYTES: usize = 64 << 10;

/// Writes everything and leaves `outgoing` empty. What is not in the page cache comes there by `disk`.
pub(super) async fn write(stream: &TcpStream, outgoing: &mut Outgoing, disk: &DiskReads) -> io::Result<()> {
    let Outgoing { buffer, pieces, copies } = outgoing;
    let mut staging = Copies::default();
    let (mut written, mut next) = (0, 0);
    // Only the very last bytes go without "more": the kernel keeps what doesn't fill a packet until something follows.
    while written < buffer.len() || next < pieces.len() {
        staging.clear();
        let group = next..next + stage(&mut pieces[next..], &mut staging, disk).await?;
        let behind = pieces.get(group.end);
        let end = behind.map_or(buffer.len(), |(position, _)| *position);
        let parts =
            Parts { buffer: &buffer[..end], begin: written, pieces: &pieces[group.clone()], copies, staging: &staging };
        send(stream, &parts, behind.is_some()).await?;
        (written, next) = (end, group.end);
        if let Some((_, Piece::File(range))) = behind
            && range.len > COPIED_BYTES_MAX
        {
            send_file(stream, range, disk).await?;
            next += 1;
        }
    }
    buffer.clear();
    pieces.clear();
    *copies = Copies::default();
    Ok(())
}

/// How many of the next pieces leave from memory, in one go: those that are there, and small ranges of files, which are
/// read into `staging` while it has room.
async fn stage(pieces: &mut [(usize, Piece)], staging: &mut Copies, disk: &DiskReads) -> io::Result<usize> {
    for (at, (_, piece)) in pieces.iter_mut().enumerate() {
        let Piece::File(range) = piece else { continue };
        if range.len > COPIED_BYTES_MAX {
            return Ok(at);
        }
        let Some((place, bytes)) = staging.place(range.len as usize) else { return Ok(at) };
        match range.file.read_exact_cached_at(bytes, range.position) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                disk.bring(range.clone()).await?;
                range.file.read_exact_at(bytes, range.position)?;
            }
            done => done?,
        }
        *piece = Piece::Staged(place);
    }
    Ok(pieces.len())
}

/// What leaves from memory together: pieces, and the bytes of the buffer before, between and behind them.
struct Parts<'a> {
    buffer: &'a [u8],
    begin: usize,
    pieces: &'a [(usize, Piece)],
    copies: &'a Copies,
    staging: &'a Copies,
}

impl Parts<'_> {
    fn count(&self) -> usize {
        2 * self.pieces.len() + 1
    }

    /// Pieces have odd numbers, bytes of the buffer even ones.
    fn part(&self, at: usize) -> &[u8] {
        let position = |piece: usize| self.pieces.get(piece).map_or(self.buffer.len(), |(position, _)| *position);
        if at.is_multiple_of(2) {
            let begin = (at / 2).checked_sub(1).map_or(self.begin, position);
            return &self.buffer[begin..position(at / 2)];
        }
        match &self.pieces[at / 2].1 {
            Piece::Bytes(bytes) => bytes,
            Piece::Copied(place) => self.copies.bytes(place.clone()),
            Piece::Staged(place) => self.staging.bytes(place.clone()),
            Piece::File(_) => &[],
        }
    }
}

async fn writable(stream: &TcpStream) -> io::Result<()> {
    match tokio::time::timeout(PEER_READS_WITHIN, stream.writable()).await {
        Ok(ready) => ready,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "peer reads nothing")),
    }
}

/// Sends all parts; `more` when something follows them.
async fn send(stream: &TcpStream, parts: &Parts<'_>, more: bool) -> io::Result<()> {
    // The first part that is not sent as a whole, and how much of it is.
    let (mut at, mut sent) = (0, 0);
    while at < parts.count() {
        if sent == parts.part(at).len() {
            (at, sent) = (at + 1, 0);
            continue;
        }
        match stream.try_io(Interest::WRITABLE, || send_some(stream, parts, at, sent, more)) {
            Ok(bytes) => {
                sent += bytes;
                while at < parts.count() && sent >= parts.part(at).len() {
                    sent -= parts.part(at).len();
                    at += 1;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => writable(stream).await?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// One call: from part `at` on, of which `skip` bytes are sent already.
fn send_some(stream: &TcpStream, parts: &Parts<'_>, at: usize, skip: usize, more: bool) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); PARTS_MAX];
    let end = parts.count().min(at + PARTS_MAX);
    for (slice, part) in slices.iter_mut().zip(at..end) {
        *slice = IoSlice::new(parts.part(part));
    }
    slices[0] = IoSlice::new(&parts.part(at)[skip..]);
    let flags = flags(more || end < parts.count());
    match &slices[..end - at] {
        [one] => Ok(rustix::net::send(stream, one, flags)?),
        several => Ok(rustix::net::sendmsg(stream, several, &mut SendAncillaryBuffer::default(), flags)?),
    }
}

#[cfg(target_os = "linux")]
fn flags(more: bool) -> SendFlags {
    if more { SendFlags::MORE | SendFlags::NOSIGNAL } else { SendFlags::NOSIGNAL }
}

#[cfg(not(target_os = "linux"))]
fn flags(_more: bool) -> SendFlags {
    SendFlags::empty()
}

#[cfg(target_os = "linux")]
async fn send_file(stream: &TcpStream, range: &FileRange, disk: &DiskReads) -> io::Result<()> {
    let Some(descriptor) = range.file.descriptor() else { return copy_file(stream, range).await };
    let (mut position, end) = (range.position, range.position + range.len);
    let mut cold = false;
    while position < end {
        let piece_end = end.min(position + LOOKED_AT_BYTES);
        // Behind what was cold, what is cached was read ahead for this reader: large pieces, which would hold a worker.
        cold = cold || !range.file.is_cached(position, piece_end - position);
        while position < piece_end {
            let mut bytes = (piece_end - position).min(SENDFILE_BYTES_MAX) as usize;
            if cold {
                let left = FileRange { position, len: piece_end - position, ..range.clone() };
                position = send_from_disk(stream, left, disk).await?;
                if position == piece_end {
                    break;
                }
                // The socket is full, or was a moment ago: this says it to the runtime.
                bytes = bytes.min(PROBE_BYTES).min((piece_end - position) as usize);
            }
            let sent = stream.try_io(Interest::WRITABLE, || {
                let sent = rustix::fs::sendfile(stream, descriptor, Some(&mut position), bytes)?;
                // The socket took less: it is full, and another call would only say so.
                if sent > 0 && sent < bytes { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(sent) }
            });
            match sent {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => writable(stream).await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Brings a range into the page cache and sends as much of it as the socket takes, apart from the worker; where it ended.
#[cfg(target_os = "linux")]
async fn send_from_disk(stream: &TcpStream, range: FileRange, disk: &DiskReads) -> io::Result<u64> {
    let socket = stream.as_fd().try_clone_to_owned()?;
    let send = move || {
        let (mut position, end) = (range.position, range.position + range.len);
        if !range.file.is_cached(position, range.len) {
            disk_reads::bring(&range)?;
        }
        let Some(descriptor) = range.file.descriptor() else { return Ok(position) };
        while position < end {
            let bytes = (end - position) as usize;
            match rustix::fs::sendfile(&socket, descriptor, Some(&mut position), bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(position)
    };
    disk.run(send).await?
}

#[cfg(not(target_os = "linux"))]
async fn send_file(stream: &TcpStream, range: &FileRange, _disk: &DiskReads) -> io::Result<()> {
    copy_file(stream, range).await
}

/// For a file without a descriptor: a test's, or another system's.
async fn copy_file(stream: &TcpStream, range: &FileRange) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES.min(range.len as usize)];
    let (mut position, end) = (range.position, range.position + range.len);
    while position < end {
        let bytes = buffer.len().min((end - position) as usize);
        range.file.read_exact_at(&mut buffer[..bytes], position)?;
        let nothing = Copies::default();
        let parts = Parts { buffer: &buffer[..bytes], begin: 0, pieces: &[], copies: &nothing, staging: &nothing };
        send(stream, &parts, false).await?;
        position += bytes as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
