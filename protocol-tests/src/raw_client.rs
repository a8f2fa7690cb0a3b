//! A client that speaks the protocol directly: any API at any version, and anything that is not the protocol.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

/// One connection.
#[derive(Debug)]
pub struct RawClient {
    stream: TcpStream,
    correlation_id: i32,
    client_id: &'static str,
}

impl RawClient {
    /// Connects; panics if nobody listens.
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).expect("the broker listens")
    }

    /// Connects where the broker may be gone.
    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self { stream, correlation_id: 0, client_id: "raw-client" })
    }

    /// The same client under another client id.
    #[must_use]
    pub fn named(mut self, client_id: &'static str) -> Self {
        self.client_id = client_id;
        self
    }

    /// Sends a request and waits for its answer.
    pub fn call<R>(&mut self, version: i16, request: &R) -> R::Response
    where
        R: Request + HeaderVersion,
        R::Response: Decodable + HeaderVersion,
    {
        let id = self.send(version, request);
        self.receive::<R>(version, id)
    }

    /// The same where the broker may go away meanwhile.
    pub fn try_call<R>(&mut self, version: i16, request: &R) -> io::Result<R::Response>
    where
        R: Request + HeaderVersion,
        R::Response: Decodable + HeaderVersion,
    {
        let id = self.try_send(version, request)?;
        self.try_receive::<R>(version, id)
    }

    /// Sends a request as `version` with the bytes of version `encoding`: for versions that the crate does not know and
    /// that changed nothing.
    pub fn call_as<R>(&mut self, version: i16, encoding: i16, request: &R) -> R::Response
    where
        R: Request + HeaderVersion,
        R::Response: Decodable + HeaderVersion,
    {
        let mut body = BytesMut::new();
        request.encode(&mut body, encoding).expect("the test builds requests that the version can carry");
        let id = self.send_encoded(R::KEY, version, R::header_version(encoding), &body);
        self.receive::<R>(encoding, id)
    }

    /// Sends a request without waiting; its correlation id.
    pub fn send<R: Request + HeaderVersion>(&mut self, version: i16, request: &R) -> i32 {
        self.try_send(version, request).expect("the broker reads")
    }

    /// Sends a request; true when the socket does not take it within a second.
    pub fn is_blocked<R: Request + HeaderVersion>(&mut self, version: i16, request: &R) -> bool {
        self.stream.set_write_timeout(Some(Duration::from_secs(1))).expect("a TCP socket");
        self.try_send(version, request).is_err()
    }

    /// Sends a request without waiting where the broker may be gone; its correlation id.
    pub fn try_send<R: Request + HeaderVersion>(&mut self, version: i16, request: &R) -> io::Result<i32> {
        let mut body = BytesMut::new();
        request.encode(&mut body, version).expect("the test builds requests that the version can carry");
        self.try_send_encoded(R::KEY, version, R::header_version(version), &body)
    }

    /// Sends a body under a well-formed header; its correlation id.
    pub fn send_encoded(&mut self, key: i16, version: i16, header_version: i16, body: &[u8]) -> i32 {
        self.try_send_encoded(key, version, header_version, body).expect("the broker reads")
    }

    fn try_send_encoded(&mut self, key: i16, version: i16, header_version: i16, body: &[u8]) -> io::Result<i32> {
        self.correlation_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(key)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str(self.client_id)));
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        header.encode(&mut frame, header_version).expect("a header can be encoded");
        frame.put_slice(body);
        let length = i32::try_from(frame.len() - 4).expect("a test's frame fits");
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.send_bytes(&frame)?;
        Ok(self.correlation_id)
    }

    /// Sends any bytes.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Waits for the answer with this correlation id; panics on another, because answers come in order.
    pub fn receive<R>(&mut self, version: i16, correlation_id: i32) -> R::Response
    where
        R: Request + HeaderVersion,
        R::Response: Decodable + HeaderVersion,
    {
        let frame = self.read_frame().unwrap_or_else(|error| panic!("no answer to {:?}: {error}", key_name(R::KEY)));
        decode::<R>(version, correlation_id, frame)
    }

    /// Waits for an answer where the broker may go away meanwhile.
    pub fn try_receive<R>(&mut self, version: i16, correlation_id: i32) -> io::Result<R::Response>
    where
        R: Request + HeaderVersion,
        R::Response: Decodable + HeaderVersion,
    {
        let frame = self.read_frame()?;
        Ok(decode::<R>(version, correlation_id, frame))
    }

    /// One frame without its length.
    pub fn read_frame(&mut self) -> io::Result<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(length)).expect("a length")];
        self.stream.read_exact(&mut frame)?;
        Ok(frame.into())
    }

    /// Waits until the broker closes the connection; what it sent before. Panics after the read timeout.
    pub fn read_until_closed(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the broker does not close the connection: {error}"),
        }
        bytes
    }

    /// How long a read may take.
    pub fn set_read_timeout(&mut self, timeout: Duration) {
        self.stream.set_read_timeout(Some(timeout)).expect("a TCP socket");
    }

    /// Closes the sending half.
    pub fn close_sending(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }
}

fn key_name(key: i16) -> Option<ApiKey> {
    ApiKey::try_from(key).ok()
}

fn decode<R>(version: i16, correlation_id: i32, mut frame: Bytes) -> R::Response
where
    R: Request + HeaderVersion,
    R::Response: Decodable + HeaderVersion,
{
    let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version)).expect("a response header");
    assert_eq!(header.correlation_id, correlation_id, "answers come in the order of their requests");
    let response = R::Response::decode(&mut frame, version)
        .unwrap_or_else(|error| panic!("answer of {:?} v{version}: {error}", key_name(R::KEY)));
    assert_eq!(frame.remaining(), 0, "{:?} v{version}: bytes left behind the answer", key_name(R::KEY));
    response
}
