//! One file per command.

mod control;
mod create;
mod fetch;
mod forget;
mod group;
mod hold;
mod idle;
mod produce;
mod ready;
mod seek;
mod tail;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::Outcome;
use crate::batch::{self, Batch, Codec};

/// Which broker, and what it is called in `/proc`.
#[derive(Debug, Clone, Args)]
pub struct Broker {
    /// Host and port.
    #[arg(long = "addr")]
    pub address: String,
    /// Process id of the broker: its CPU time is reported.
    #[arg(long, default_value_t = 0)]
    pub pid: u32,
}

/// Which partitions.
#[derive(Debug, Clone, Args)]
pub struct Topic {
    #[arg(long, default_value = "t")]
    pub topic: String,
    #[arg(long, default_value_t = 1)]
    pub partitions: usize,
}

/// What is sent.
#[derive(Debug, Clone, Args)]
pub struct Content {
    /// Bytes of a record's value.
    #[arg(long, default_value_t = 1024)]
    pub record: usize,
    /// Bytes of a batch before compression; at least one record.
    #[arg(long, default_value_t = 16384)]
    pub batch: usize,
    #[arg(long, value_enum, default_value = "none")]
    pub codec: Codec,
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    pub acks: i16,
    /// Without producer id and sequences.
    #[arg(long)]
    pub not_idempotent: bool,
}

impl Content {
    fn batch(&self) -> Outcome<Batch> {
        batch::batch(self.record, self.batch, self.codec)
    }
}

/// What a fetch asks for.
#[derive(Debug, Clone, Args)]
pub struct Appetite {
    /// `fetch.max.bytes`.
    #[arg(long, default_value_t = 50 << 20)]
    pub max_bytes: i32,
    /// `max.partition.fetch.bytes`.
    #[arg(long, default_value_t = 1 << 20)]
    pub partition_bytes: i32,
    /// `fetch.max.wait.ms`.
    #[arg(long, default_value_t = 500)]
    pub wait_ms: i32,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a topic and wait until every partition takes a record.
    Create {
        #[command(flatten)]
        broker: Broker,
        #[command(flatten)]
        topic: Topic,
        /// Topic configuration, `key=value`.
        #[arg(long)]
        config: Vec<String>,
    },
    /// Delete a topic.
    Delete {
        #[command(flatten)]
        broker: Broker,
        #[command(flatten)]
        topic: Topic,
    },
    /// Produce in a closed loop, or with --rate in an open one.
    Produce(produce::Produce),
    /// Read from the beginning to the end.
    Fetch(fetch::Fetch),
    /// Produce at a fixed rate and read along: latency of acknowledgement and from end to end.
    Tail(tail::Tail),
    /// Jump to places at random: time to the first record.
    Seek(seek::Seek),
    /// Long polls at the end of the log.
    Idle(idle::Idle),
    /// Members of groups: how long they take to become stable, and what that costs.
    Group(group::Group),
    /// Open connections, print one line, and hold them until standard input ends.
    Hold {
        #[command(flatten)]
        broker: Broker,
        #[arg(long, default_value_t = 1000)]
        conns: usize,
    },
    /// From now until every partition takes a record; start it together with the broker.
    Ready {
        #[command(flatten)]
        broker: Broker,
        #[command(flatten)]
        topic: Topic,
    },
    /// What the machine alone does to latency: an open loop over loopback to a thread that echoes.
    Control {
        /// Per second.
        #[arg(long, default_value_t = 500.0)]
        rate: f64,
        #[arg(long, default_value_t = 20.0)]
        secs: f64,
    },
    /// Write files out and drop them from the page cache.
    Forget { files: Vec<PathBuf> },
}

/// Runs a command to its result.
pub fn run(command: Command) -> Outcome<Value> {
    match command {
        Command::Create { broker, topic, config } => create::create(&broker, &topic, &config),
        Command::Delete { broker, topic } => create::delete(&broker, &topic),
        Command::Produce(produce) => produce.run(),
        Command::Fetch(fetch) => fetch.run(),
        Command::Tail(tail) => tail.run(),
        Command::Seek(seek) => seek.run(),
        Command::Idle(idle) => idle.run(),
        Command::Group(group) => group.run(),
        Command::Hold { broker, conns } => hold::hold(&broker, conns),
        Command::Ready { broker, topic } => ready::ready(&broker, &topic),
        Command::Control { rate, secs } => control::control(rate, secs),
        Command::Forget { files } => forget::forget(&files),
    }
}
