//! A front of an HTTP server that spoils whole answers, which a proxy of bytes cannot: it says 503, or does what was asked
//! and loses the reply. One request a connection; the server is asked to close, so that the end of its answer is known.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

/// What becomes of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Weather {
    /// They are answered.
    Fine,
    /// 503 Slow Down, nothing done.
    Unavailable,
    /// What changes something is done, and its reply lost.
    RepliesLost,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    weather: AtomicU8,
    spoiled: AtomicUsize,
}

/// The front. Ends with its test's process.
#[derive(Debug, Clone)]
pub struct Front {
    shared: Arc<Shared>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Front {
    /// Listens for what goes to `upstream`.
    pub fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (weather, spoiled) = (AtomicU8::new(Weather::Fine as u8), AtomicUsize::new(0));
        let shared = Arc::new(Shared { upstream, weather, spoiled });
        let front = Self { shared: Arc::clone(&shared), address };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // An end of either side is the end of the exchange and of nothing else.
                std::thread::spawn(move || drop(shared.exchange(client)));
            }
        });
        front
    }

    /// From now on.
    pub fn set(&self, weather: Weather) {
        self.shared.weather.store(weather as u8, Ordering::SeqCst);
    }

    /// How many answers were spoiled.
    pub fn spoiled(&self) -> usize {
        self.shared.spoiled.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn is(&self, weather: Weather) -> bool {
        self.weather.load(Ordering::SeqCst) == weather as u8
    }

    fn exchange(&self, mut client: TcpStream) -> io::Result<()> {
        client.set_read_timeout(Some(Duration::from_secs(60)))?;
        let (head, body) = read_request(&mut client)?;
        if self.is(Weather::Unavailable) {
            self.spoiled.fetch_add(1, Ordering::SeqCst);
            client.write_all(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
            return client.shutdown(Shutdown::Write);
        }
        let mut server = TcpStream::connect(self.upstream)?;
        server.write_all(head.trim_end().as_bytes())?;
        server.write_all(b"\r\nConnection: close\r\n\r\n")?;
        server.write_all(&body)?;
        let changes = ["PUT ", "POST ", "DELETE "].iter().any(|method| head.starts_with(method));
        if changes && self.is(Weather::RepliesLost) {
            io::copy(&mut server, &mut io::sink())?;
            self.spoiled.fetch_add(1, Ordering::SeqCst);
            return client.shutdown(Shutdown::Both);
        }
        io::copy(&mut server, &mut client)?;
        client.shutdown(Shutdown::Write)
    }
}

/// The head with its empty line, and the body.
fn read_request(client: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut piece = [0; 64 << 10];
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        let count = client.read(&mut piece)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&piece[..count]);
    };
    let mut body = bytes.split_off(end);
    let head = String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData)?;
    let length = head.lines().filter_map(|line| line.split_once(':'));
    let mut length =
        length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length")).map(|(_, value)| value.trim());
    let length: usize = length.next_back().map_or(Ok(0), str::parse).map_err(|_| io::ErrorKind::InvalidData)?;
    let have = body.len();
    body.resize(length, 0);
    if have < length {
        client.read_exact(&mut body[have..])?;
    }
    Ok((head, body))
}
