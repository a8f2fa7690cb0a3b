//! One connection to a broker, as a client has it. One broker is the whole cluster, so that it leads and coordinates all.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

use crate::cli::Failure;
use crate::protocol::error_code::ErrorCode;

const TIMEOUT: Duration = Duration::from_secs(30);
/// More than any answer that is asked for, less than what would hurt.
const ANSWER_BYTES_MAX: usize = 128 << 20;
const RETRY: Duration = Duration::from_millis(100);

pub(super) struct Connection {
    stream: TcpStream,
    correlation_id: i32,
}

impl Connection {
    pub(super) fn open(address: &str) -> Result<Self, Failure> {
        let open = || {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            io::Result::Ok(stream)
        };
        let stream = open().map_err(|error| Failure::new(format!("{address}: {error}")))?;
        Ok(Self { stream, correlation_id: 0 })
    }

    /// Sends a request and waits for its answer.
    pub(super) fn call<R>(&mut self, version: i16, request: &R) -> Result<R::Response, Failure>
    where
        R: Request + HeaderVersion,
        R::Response: Decodable + HeaderVersion,
    {
        self.correlation_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str("terrace-dlq")));
        let mut body = BytesMut::new();
        let encoded =
            header.encode(&mut body, R::header_version(version)).and_then(|()| request.encode(&mut body, version));
        encoded.map_err(|error| Failure::new(format!("a request cannot be written: {error}")))?;
        let mut answer = self.exchange(&body).map_err(|error| Failure::new(format!("the broker: {error}")))?;
        ResponseHeader::decode(&mut answer, R::Response::header_version(version))
            .and_then(|_| R::Response::decode(&mut answer, version))
            .map_err(|error| Failure::new(format!("an answer of the broker cannot be read: {error}")))
    }

    /// Asks until the answer is none that says to ask again; `code` finds what it says.
    pub(super) fn settled<R>(
        &mut self,
        version: i16,
        request: &R,
        what: &str,
        code: impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, Failure>
    where
        R: Request + HeaderVersion,
        R::Response: Decodable + HeaderVersion,
    {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let answer = self.call(version, request)?;
            let code = code(&answer);
            if code == ErrorCode::None.code() {
                return Ok(answer);
            }
            if !says_again(code) || Instant::now() >= deadline {
                return Err(Failure::new(format!("{what}: the broker answers with error {code}")));
            }
            std::thread::sleep(RETRY);
        }
    }

    fn exchange(&mut self, body: &[u8]) -> io::Result<Bytes> {
        let mut frame = BytesMut::with_capacity(4 + body.len());
        frame.put_i32(i32::try_from(body.len()).map_err(|_| io::ErrorKind::InvalidInput)?);
        frame.put_slice(body);
        self.stream.write_all(&frame)?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > ANSWER_BYTES_MAX {
            return Err(io::Error::other("an answer is too long"));
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        Ok(answer.into())
    }
}

/// Coordinators that load, and transactions that end.
fn says_again(code: i16) -> bool {
    const AGAIN: [ErrorCode; 5] = [
        ErrorCode::CoordinatorLoadInProgress,
        ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotCoordinator,
        ErrorCode::ConcurrentTransactions,
        ErrorCode::UnstableOffsetCommit,
    ];
    AGAIN.iter().any(|again| again.code() == code)
}
