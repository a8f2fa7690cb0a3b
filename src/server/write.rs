//! Writing answers: small parts in one write, file ranges by `sendfile`, and an end for a peer that does not read.

use std::io;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::api::answer::{Outgoing, Piece};
use crate::log::view::FileRange;

/// A peer that takes nothing for so long is gone.
const PEER_READS_WITHIN: Duration = Duration::from_secs(30);
/// One call of `sendfile` holds its worker no longer than this takes.
const SENDFILE_BYTES_MAX: usize = 512 << 10;
/// A range up to this size is copied between its neighbours: one write costs less than two calls.
const COPIED_BYTES_MAX: u64 = 16 << 10;
/// The copied parts go out when so much is together.
const STAGED_BYTES_MAX: usize = 256 << 10;
/// Where there is no descriptor to send from.
const READ_BYTES: usize = 64 << 10;

/// Writes everything and leaves `outgoing` empty.
pub(super) async fn write(stream: &TcpStream, outgoing: &mut Outgoing) -> io::Result<()> {
    if outgoing.pieces.is_empty() {
        send(stream, &outgoing.buffer, false).await?;
        outgoing.buffer.clear();
        return Ok(());
    }
    let mut staged = Vec::new();
    let mut written = 0;
    let mut pieces = outgoing.pieces.drain(..).peekable();
    // Only the very last bytes go without "more": the kernel keeps what doesn't fill a packet until something follows.
    while let Some((position, piece)) = pieces.next() {
        if staged.len() >= STAGED_BYTES_MAX {
            send(stream, &staged, true).await?;
            staged.clear();
        }
        staged.extend_from_slice(&outgoing.buffer[written..position]);
        written = position;
        match piece {
            Piece::File(range) if range.len <= COPIED_BYTES_MAX => {
                let at = staged.len();
                staged.resize(at + range.len as usize, 0);
                range.file.read_exact_at(&mut staged[at..], range.position)?;
            }
            large => {
                send(stream, &staged, true).await?;
                staged.clear();
                match large {
                    Piece::File(range) => send_file(stream, &range).await?,
                    Piece::Bytes(bytes) => {
                        send(stream, &bytes, pieces.peek().is_some() || written < outgoing.buffer.len()).await?;
                    }
                }
            }
        }
    }
    drop(pieces);
    staged.extend_from_slice(&outgoing.buffer[written..]);
    outgoing.buffer.clear();
    send(stream, &staged, false).await
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
async fn send_file(stream: &TcpStream, range: &FileRange) -> io::Result<()> {
    let Some(descriptor) = range.file.descriptor() else { return copy_file(stream, range).await };
    let (mut position, end) = (range.position, range.position + range.len);
    while position < end {
        let bytes = usize::try_from(end - position).unwrap_or(usize::MAX).min(SENDFILE_BYTES_MAX);
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
    Ok(())
}

#[cfg(not(target_os = "linux"))]
async fn send_file(stream: &TcpStream, range: &FileRange) -> io::Result<()> {
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
        let begun = Instant::now();
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
            let (written, read) = tokio::join!(write(&stream, &mut outgoing), peer.read_exact(&mut received));
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
        let error = write(&stream, &mut outgoing).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= PEER_READS_WITHIN && begun.elapsed() < 2 * PEER_READS_WITHIN);
        drop(peer);
    }
}
