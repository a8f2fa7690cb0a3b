//! Load on any Kafka broker, far cheaper than the broker it drives: blocking sockets, a thread per connection, requests
//! encoded once and patched in place (correlation id, partition, sequence, CRC).
//!
//! What counts is the *broker's* CPU time and context switches, read from `/proc/<pid>` until it is idle again: on a
//! machine that is shared with others they stay meaningful where rates do not. Latencies of an open loop begin at the
//! intended send time, so that a slow answer isn't hidden by the requests it held up. Each command prints one line of
//! JSON.

mod batch;
mod commands;
mod connection;
mod group_wire;
mod histogram;
mod meter;
mod produce_request;
mod wire;

use std::process::ExitCode;

use clap::Parser;
use commands::Command;

/// What may go wrong ends the command; there is nothing to mend in a measurement.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Load on a Kafka broker, and what it cost the broker.
#[derive(Debug, Parser)]
#[command(name = "loadgen")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    match commands::run(Arguments::parse().command) {
        Ok(result) => {
            println!("{result}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("loadgen: {error}");
            ExitCode::FAILURE
        }
    }
}
