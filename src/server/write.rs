//! Writing answers: small parts in one write, file ranges by `sendfile`, and an end for a peer that does not read.

use std::io;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::api::answer::{Outgoing, Piece};
use crate::log::view::FileRange;
use crate::partition::disk_reads::{self, DiskReads};

/// A peer that takes nothing for so long is gone.
const PEER_READS_WITHIN: Duration = Duration::from_secs(30);
/// One call of `sendfile` holds its worker no longer than this takes.
const SENDFILE_BYTES_MAX: u64 = disk_reads::PIECE_BYTES;
/// A range up to this size is copied between its neighbours: one write costs less than two calls.
const COPIED_BYTES_MAX: u64 = 16 << 10;
/// The copied parts go out when so much is together.
const STAGED_BYTES_MAX: usize = 256 << 10;
/// A larger staging buffer is not kept for the next answer.
const STAGING_KEPT_BYTES: usize = 64 << 10;
/// Where there is no descriptor to send from.
const READ_BYTES: usize = 64 << 10;

/// Writes everything and leaves `outgoing` empty. What is not in the page cache comes there by `disk`.
pub(super) async fn write(stream: &TcpStream, outgoing: &mut Outgoing, disk: &DiskReads) -> io::Result<()> {
    if outgoing.pieces.is_empty() {
        send(stream, &outgoing.buffer, false).await?;
        outgoing.buffer.clear();
        return Ok(());
    }
    let Outgoing { buffer, pieces, staging } = outgoing;
    let mut staged = Staged { bytes: staging, filled: 0 };
    let mut written = 0;
    let mut pieces = pieces.drain(..).peekable();
    // Only the very last bytes go without "more": the kernel keeps what doesn't fill a packet until something follows.
    while let Some((position, piece)) = pieces.next() {
        if staged.filled >= STAGED_BYTES_MAX {
            send(stream, staged.take(), true).await?;
        }
        staged.put(&buffer[written..position]);
        written = position;
        match piece {
            Piece::File(range) if range.len <= COPIED_BYTES_MAX => copy(&range, &mut staged, disk).await?,
            large => {
                send(stream, staged.take(), true).await?;
                match large {
                    Piece::File(range) => send_file(stream, &range, disk).await?,
                    Piece::Bytes(bytes) => {
                        send(stream, &bytes, pieces.peek().is_some() || written < buffer.len()).await?;
                    }
                }
            }
        }
    }
    drop(pieces);
    staged.put(&buffer[written..]);
    send(stream, staged.take(), false).await?;
    buffer.clear();
    if staging.len() > STAGING_KEPT_BYTES {
        *staging = Vec::new();
    }
    Ok(())
}

/// Small parts that leave in one write. Its bytes stay initialised from one answer to the next.
struct Staged<'a> {
    bytes: &'a mut Vec<u8>,
    filled: usize,
}

impl Staged<'_> {
    fn place(&mut self, len: usize) -> &mut [u8] {
        let begin = self.filled;
        self.filled += len;
        if self.bytes.len() < self.filled {
            self.bytes.resize(self.filled.next_power_of_two(), 0);
        }
        &mut self.bytes[begin..self.filled]
    }

    fn put(&mut self, bytes: &[u8]) {
        self.place(bytes.len()).copy_from_slice(bytes);
    }

    fn take(&mut self) -> &[u8] {
        &self.bytes[..std::mem::take(&mut self.filled)]
    }
}

async fn copy(range: &FileRange, staged: &mut Staged<'_>, disk: &DiskReads) -> io::Result<()> {
    let place = staged.place(range.len as usize);
    match range.file.read_exact_cached_at(place, range.position) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            disk.bring(range.clone()).await?;
            range.file.read_exact_at(place, range.position)
        }
        done => done,
    }
}

async fn writable(stream: &TcpStream) -> io::Result<()> {
    match tokio::time::timeout(PEER_READS_WITHIN, stream.writable()).await {
        Ok(ready) => ready,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "peer reads nothing")),
    }
}

async fn send(stream: &TcpStream, mut bytes: &[u8], more: bool) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.try_io(Interest::WRITABLE, || send_some(stream, bytes, more)) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => writable(stream).await?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn send_some(stream: &TcpStream, bytes: &[u8], more: bool) -> io::Result<usize> {
    use rustix::net::SendFlags;
    let flags = if more { SendFlags::MORE | SendFlags::NOSIGNAL } else { SendFlags::NOSIGNAL };
    Ok(rustix::net::send(stream, bytes, flags)?)
}

#[cfg(not(target_os = "linux"))]
fn send_some(stream: &TcpStream, bytes: &[u8], _more: bool) -> io::Result<usize> {
    Ok(rustix::net::send(stream, bytes, rustix::net::SendFlags::empty())?)
}

#[cfg(target_os = "linux")]
async fn send_file(stream: &TcpStream, range: &FileRange, disk: &DiskReads) -> io::Result<()> {
    let Some(descriptor) = range.file.descriptor() else { return copy_file(stream, range).await };
    let (mut position, end) = (range.position, range.position + range.len);
    while position < end {
        let piece_end = end.min(position + SENDFILE_BYTES_MAX);
        if !range.file.is_cached(position, piece_end - position) {
            disk.bring(FileRange { position, len: piece_end - position, ..range.clone() }).await?;
        }
        while position < piece_end {
            let bytes = (piece_end - position) as usize;
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
        send(stream, &buffer[..bytes], false).await?;
        position += bytes as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::{Bytes, BytesMut};
    use rstest::rstest;
    use terrace_tiering::platform::fs::{Fs, Open, RealFs, SharedFile};
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    const ROUNDS: usize = 20;
    // What the kernel holds back goes out after 200 ms: 20 times that is 4 s.
    const FAR_BELOW_ALL_HELD_BACK: Duration = Duration::from_secs(2);

    fn in_memory(bytes: usize) -> Piece {
        Piece::Bytes(Bytes::from(vec![7; bytes]))
    }

    #[rstest]
    #[case::small_ranges_that_fill_the_stage_exactly(16, |file| Piece::File(FileRange { file, position: 0, len: 16 << 10 }))]
    #[case::a_range_sent_from_its_file(1, |file| Piece::File(FileRange { file, position: 0, len: 20_000 }))]
    #[case::bytes_of_the_cold_tier(1, |_| in_memory(20_000))]
    #[tokio::test]
    async fn nothing_is_held_back_behind_the_last_piece(#[case] pieces: usize, #[case] piece: fn(SharedFile) -> Piece) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("segment");
        std::fs::write(&path, vec![7; 20_000]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (begun, disk) = (Instant::now(), DiskReads::default());
        for _ in 0..ROUNDS {
            let mut outgoing = Outgoing { buffer: BytesMut::from(&b"header"[..]), ..Outgoing::default() };
            let mut bytes = outgoing.buffer.len();
            for _ in 0..pieces {
                let piece = piece(RealFs.open(&path, Open::Read).unwrap());
                bytes += match &piece {
                    Piece::File(range) => range.len as usize,
                    Piece::Bytes(bytes) => bytes.len(),
                };
                outgoing.pieces.push((6, piece));
            }
            let mut received = vec![0; bytes];
            let (written, read) = tokio::join!(write(&stream, &mut outgoing, &disk), peer.read_exact(&mut received));
            written.unwrap();
            read.unwrap();
        }
        assert!(begun.elapsed() < FAR_BELOW_ALL_HELD_BACK, "took {:?}", begun.elapsed());
    }

    // The clock is tokio's and paused: it jumps to the next deadline when nothing else is left to do.
    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_for_30_seconds_is_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let begun = tokio::time::Instant::now();
        let mut outgoing = Outgoing { buffer: BytesMut::zeroed(64 << 20), ..Outgoing::default() };
        let error = write(&stream, &mut outgoing, &DiskReads::default()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= PEER_READS_WITHIN && begun.elapsed() < 2 * PEER_READS_WITHIN);
        drop(peer);
    }
}
