use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use rstest::rstest;
use terrace_tiering::platform::fs::{File, Fs, Open, RealFs, SharedFile};
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
                Piece::Copied(_) | Piece::Staged(_) => unreachable!("no case has one"),
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

/// Bytes that differ from place to place.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

// Every kind of piece, more of them than one call takes, more small ranges than are staged at once, and a socket that
// takes a part now and then.
#[tokio::test]
async fn everything_arrives_in_order() {
    const LARGE: u64 = 700_000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("segment");
    let content = pattern(1_000_000);
    std::fs::write(&path, &content).unwrap();
    let file = RealFs.open(&path, Open::Read).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let (mut outgoing, mut expected) = (Outgoing::default(), Vec::new());
    for number in 0..500_usize {
        let header = format!("header {number}").into_bytes();
        outgoing.buffer.extend_from_slice(&header);
        expected.extend_from_slice(&header);
        let begin = number * 100;
        let len = match number % 50 {
            13 => LARGE,
            17 => 0,
            _ => COPIED_BYTES_MAX - number as u64,
        };
        let bytes = &content[begin..begin + len as usize];
        let range = FileRange { file: file.clone(), position: begin as u64, len };
        let copied = if number % 3 == 0 { outgoing.copies.place(bytes.len()) } else { None };
        let piece = match copied {
            Some((place, copy)) => {
                copy.copy_from_slice(bytes);
                Piece::Copied(place)
            }
            None if number % 7 == 0 => Piece::Bytes(Bytes::copy_from_slice(bytes)),
            None => Piece::File(range),
        };
        expected.extend_from_slice(bytes);
        outgoing.pieces.push((outgoing.buffer.len(), piece));
    }
    outgoing.buffer.extend_from_slice(b"the end");
    expected.extend_from_slice(b"the end");
    let disk = DiskReads::default();
    let mut received = vec![0; expected.len()];
    let (written, read) = tokio::join!(write(&stream, &mut outgoing, &disk), peer.read_exact(&mut received));
    written.unwrap();
    read.unwrap();
    assert!(received == expected, "the bytes are those of the pieces");
    assert!(outgoing.is_empty() && outgoing.copies.held_bytes() == 0);
}

/// A file of which nothing is cached.
#[derive(Debug)]
struct Cold(SharedFile);

impl File for Cold {
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, position)
    }
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.0.read_at(buffer, position)
    }
    fn read_cached_at(&self, _buffer: &mut [u8], _position: u64) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
    fn is_cached(&self, _position: u64, _len: u64) -> bool {
        false
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.0.descriptor()
    }
}

#[tokio::test]
async fn what_comes_from_the_disk_arrives_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("segment");
    let content = pattern(20 << 20);
    std::fs::write(&path, &content).unwrap();
    let file: SharedFile = Arc::new(Cold(RealFs.open(&path, Open::Read).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let mut outgoing = Outgoing::default();
    outgoing.pieces.push((0, Piece::File(FileRange { file: file.clone(), position: 5, len: 1000 })));
    outgoing.pieces.push((0, Piece::File(FileRange { file, position: 1005, len: (content.len() - 1005) as u64 })));
    let disk = DiskReads::default();
    let read = async {
        let mut received = vec![0; content.len() - 5];
        // A peer that is slower than the disk: the socket is full now and then.
        for piece in received.chunks_mut(1 << 20) {
            tokio::task::yield_now().await;
            peer.read_exact(piece).await.unwrap();
        }
        received
    };
    let (written, received) = tokio::join!(write(&stream, &mut outgoing, &disk), read);
    written.unwrap();
    assert!(received == content[5..], "the bytes are the file's");
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
