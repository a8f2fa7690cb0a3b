//! The share coordinator: keeps, for every partition that a share group reads, where its records stand (KIP-932).
//!
//! One shard per partition of `__share_group_state`, on the runtime of [`crate::coordinator`]; the state is the fold of the
//! [`records`]. Whoever gives out the records of a partition ([`super::partition`]) reads the state once and writes each
//! change before it counts.

pub mod lines;
pub mod records;
pub mod shard;

use std::sync::Arc;
use std::time::Duration;

use self::records::ShareKey;
use self::shard::{Initialized, Kept, Refused, ShareStateContext, ShareStateShard, Written};
use crate::config::server::ShareStateSettings;
use crate::coordinator::internal_topic::{BROKERS, InternalTopic};
use crate::coordinator::{Shards, ShardsDeps};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::Offset;
use crate::protocol::uuid_text;

/// Between two questions to a shard that loads.
const LOAD_POLL: Duration = Duration::from_millis(10);

/// The topic's name.
pub const SHARE_STATE_TOPIC: &str = "__share_group_state";

/// The topic as it is made on demand; what it overrides as Kafka does.
fn share_state_topic(settings: &ShareStateSettings) -> InternalTopic {
    let overrides = [
        ("cleanup.policy", "delete".to_owned()),
        ("compression.type", "producer".to_owned()),
        ("min.insync.replicas", settings.min_isr.clamp(1, i32::from(BROKERS)).to_string()),
        ("retention.ms", "-1".to_owned()),
        ("segment.bytes", settings.segment_bytes.to_string()),
    ];
    InternalTopic {
        name: SHARE_STATE_TOPIC,
        partitions: settings.partitions,
        replication_factor: settings.replication_factor,
        config: overrides.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
    }
}

impl ShareKey {
    /// By which the partition of the topic is found, as Kafka has it.
    pub fn coordinator_key(&self) -> String {
        format!("{}:{}:{}", self.group, uuid_text::encode(self.topic), self.partition)
    }
}

/// The states of all share partitions.
pub struct ShareStates {
    shards: Arc<Shards<ShareStateShard>>,
    write_timeout: Duration,
}

impl ShareStates {
    /// A coordinator whose shards are not started.
    pub fn new(deps: ShardsDeps, context: ShareStateContext) -> Arc<Self> {
        let write_timeout = Duration::from_millis(context.settings.write_timeout_ms);
        Arc::new(Self { shards: Shards::new(deps, Arc::new(context)), write_timeout })
    }

    /// Starts the shards that the image knows, and follows it from now on.
    pub fn start(&self) {
        self.shards.start();
    }

    /// Are all shards loaded, so that the node is ready?
    pub fn is_loaded(&self) -> bool {
        self.shards.is_loaded()
    }

    /// Makes sure that states have a place to be. COORDINATOR_NOT_AVAILABLE if that fails.
    pub async fn find(&self) -> Result<(), ErrorCode> {
        self.shards.find().await
    }

    /// The partition of `__share_group_state` that keeps a state.
    pub fn partition_of(&self, key: &ShareKey) -> i32 {
        self.shards.partition_of(&key.coordinator_key())
    }

    /// Begins to keep a state, or begins it anew at a higher state epoch.
    pub async fn initialize(&self, key: ShareKey, begin: Initialized) -> Result<(), ErrorCode> {
        let asked = self.ask_new(&key, || {
            let key = key.clone();
            move |shard: &mut ShareStateShard, to, now| shard.initialize(key, begin, to, now)
        });
        asked.await?.map_err(Refused::code)
    }

    /// Begins a state anew at `start_offset`, whatever it was.
    pub async fn set(&self, key: ShareKey, start_offset: Offset) -> Result<(), ErrorCode> {
        let asked = self.ask_new(&key, || {
            let key = key.clone();
            move |shard: &mut ShareStateShard, to, now| shard.set(key, start_offset, to, now)
        });
        asked.await?.map_err(Refused::code)
    }

    /// The state as it is; `None` when it is not kept.
    pub async fn read(&self, key: ShareKey) -> Result<Option<Kept>, ErrorCode> {
        let of = key.coordinator_key();
        self.shards.ask(&of, move |shard, to, _| shard.read(&key, to)).await
    }

    /// Cuts a state at the end of its log; the state as it is then, `None` when it is not kept.
    pub async fn cut(&self, key: ShareKey, end: Offset) -> Result<Option<Kept>, ErrorCode> {
        let of = key.coordinator_key();
        let asked = self.shards.ask(&of, move |shard, to, now| shard.cut(key, end, to, now));
        self.in_time(asked).await?.map_err(Refused::code)
    }

    /// Writes a change.
    pub async fn write(&self, key: ShareKey, written: Written) -> Result<(), ErrorCode> {
        let of = key.coordinator_key();
        let asked = self.shards.ask(&of, move |shard, to, now| shard.write(key, written, to, now));
        self.in_time(asked).await?.map_err(Refused::code)
    }

    /// Forgets a state.
    pub async fn delete(&self, key: ShareKey) -> Result<(), ErrorCode> {
        let of = key.coordinator_key();
        let asked = self.shards.ask(&of, move |shard, to, now| shard.delete(key, to, now));
        self.in_time(asked).await?
    }

    /// Asks a shard that may have been made a moment ago, and be loading.
    async fn ask_new<T: Send + 'static, A>(&self, key: &ShareKey, ask: impl Fn() -> A) -> Result<T, ErrorCode>
    where
        A: FnOnce(&mut ShareStateShard, tokio::sync::oneshot::Sender<T>, crate::coordinator::Now) + Send + 'static,
    {
        self.find().await?;
        let of = key.coordinator_key();
        self.in_time(async {
            loop {
                match self.shards.ask(&of, ask()).await {
                    Err(ErrorCode::CoordinatorLoadInProgress) => tokio::time::sleep(LOAD_POLL).await,
                    other => return other,
                }
            }
        })
        .await
    }

    async fn in_time<T>(&self, asked: impl Future<Output = Result<T, ErrorCode>>) -> Result<T, ErrorCode> {
        // It may become durable later: then the next start gives out again what this one had done with.
        tokio::time::timeout(self.write_timeout, asked).await.unwrap_or(Err(ErrorCode::CoordinatorNotAvailable))
    }

    /// Its shards, whose state goes into the metadata snapshots.
    pub fn shards(&self) -> &Arc<Shards<ShareStateShard>> {
        &self.shards
    }
}
