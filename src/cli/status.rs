//! `terrace status`: asks a running broker by HTTP.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use clap::Args;

use super::{Failure, show};
use crate::telemetry::status::Status;

/// Where a broker listens that was told nothing else.
pub(super) const DEFAULT_ADDRESS: &str = "127.0.0.1:9190";

const TIMEOUT: Duration = Duration::from_secs(10);
/// More than any status, less than what would hurt.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Which broker, and how to show it.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The broker's HTTP address, one of admin.listeners.
    #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_ADDRESS)]
    address: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Prints the status; fails if the broker is not ready.
pub(super) fn run(arguments: &StatusArgs) -> Result<(), Failure> {
    let address = arguments.address.strip_prefix("http://").unwrap_or(&arguments.address);
    let body = get(address, "/status").map_err(|e| Failure::new(format!("{address}: {e}")))?;
    let status: Status = serde_json::from_str(&body).map_err(|e| Failure::new(format!("{address}: {e}")))?;
    if arguments.json {
        show(&format!("{}\n", body.trim_end()))?;
    } else {
        show(&status.to_string())?;
    }
    if status.ready { Ok(()) } else { Err(Failure::new("the broker is not ready")) }
}

/// The status of the broker at an address.
pub(super) fn ask(address: &str) -> Result<Status, String> {
    let address = address.strip_prefix("http://").unwrap_or(address);
    let body = get(address, "/status").map_err(|error| error.to_string())?;
    serde_json::from_str(&body).map_err(|error| error.to_string())
}

/// The body of a GET. HTTP/1.0, so that the answer ends with the connection.
fn get(address: &str, path: &str) -> std::io::Result<String> {
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for resolved in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&resolved, TIMEOUT) {
            Ok(stream) => return exchange(stream, address, path),
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn exchange(mut stream: TcpStream, host: &str, path: &str) -> std::io::Result<String> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::InvalidData)?;
    match head.split_whitespace().nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(std::io::Error::other(format!("{}: {}", head.lines().next().unwrap_or_default(), body.trim()))),
    }
}
