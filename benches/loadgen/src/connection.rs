//! A blocking connection to the broker.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::Outcome;
use crate::wire::{Reader, Writer};

const INIT_PRODUCER_ID: i16 = 22;
const PRODUCER_ID_TRIES: u32 = 200;
/// A broker that takes longer is given up: a request that got lost would keep the run for ever.
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// A blocking connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub fn open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        // A port of the ephemeral range at which nobody listens can connect to itself.
        if stream.local_addr()? == stream.peer_addr()? {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// A second handle, so that one thread writes and another reads.
    pub fn second(&self) -> io::Result<Self> {
        Ok(Self { stream: self.stream.try_clone()?, buffer: Vec::new() })
    }

    pub fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request)
    }

    /// The next answer, behind its correlation id.
    pub fn receive(&mut self) -> io::Result<&[u8]> {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size)?;
        let size = u32::from_be_bytes(size) as usize;
        if self.buffer.len() < size {
            self.buffer.resize(size, 0);
        }
        self.stream.read_exact(&mut self.buffer[..size])?;
        Ok(self.buffer.get(4..size).unwrap_or_default())
    }

    pub fn call(&mut self, request: &[u8]) -> io::Result<&[u8]> {
        self.send(request)?;
        self.receive()
    }

    pub fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(timeout))
    }
}

/// Id and epoch of an idempotent producer.
#[derive(Debug, Clone, Copy)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
}

impl Producer {
    /// A new one, from the broker.
    pub fn new(address: &str) -> Outcome<Self> {
        let mut connection = Connection::open(address)?;
        for _ in 0..PRODUCER_ID_TRIES {
            let mut request = Writer::request(INIT_PRODUCER_ID, 1);
            request.i16(-1);
            request.i32(60_000);
            let mut answer = Reader::new(connection.call(&request.finish())?);
            answer.i32();
            if answer.i16() == 0 {
                return Ok(Self { id: answer.i64(), epoch: answer.i16() });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err("the broker gives no producer id".into())
    }
}
