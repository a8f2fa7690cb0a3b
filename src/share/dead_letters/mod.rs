//! Dead letters of share groups (KIP-1191): records that were rejected, or given out as often as the group allows, are written
//! to the topic that the group names, and are done with when that is durable.
//!
//! ```text
//!  acquired ──> archiving, at the share coordinator ──> dead letter appended, its ticket ──> archived, at the share coordinator
//! ```
//! A crash between the last two writes the dead letter a second time. One task serves all share partitions, each one batch
//! after the other: what cannot be written now is tried again, ever later, and holds up no other share partition and none of
//! the records that its members may be given.

pub mod letter;
mod source;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use terrace_tiering::platform::clock::SharedClock;
use terrace_tiering::platform::crash_point::{self, CrashPoint};
use terrace_tiering::platform::random::SharedRandom;
use terrace_tiering::platform::task::Tasks;
use tokio::sync::{Notify, Semaphore};

use self::letter::{Letters, Origin};
use self::source::Found;
use self::target::{NoTarget, Target};
use super::in_flight::Archiving;
use super::partition::SharePartition;
use super::partitions::SharePartitions;
use super::state::records::ShareKey;
use crate::config::server::BrokerConfig;
use crate::config::topic::TopicConfig;
use crate::metadata::image::{Change, Image, Topic};
use crate::metadata::store::{CommitError, SharedMetadata};
use crate::partition::append::{AppendError, AppendOrigin};
use crate::partition::registry::Partitions;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::Offset;
use crate::telemetry::metrics::{SHARE_DEAD_LETTER_RETRIES, SHARE_DEAD_LETTERS, SHARE_DEAD_LETTERS_FAILED};

/// Share partitions that write at the same time.
const WRITERS: usize = 8;
/// Runs of records that one batch is made of, at most.
const BATCH_RUNS: usize = 1000;
/// Bytes of one batch, if the topic takes as many.
const BATCH_BYTES: usize = 1 << 20;
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(30);
/// After so many failed reads dead letters go without what they were to copy.
const READS: u32 = 10;

/// Share partitions whose dead letters are to be written, each once.
#[derive(Debug, Default)]
pub struct Waiting {
    keys: Mutex<BTreeSet<ShareKey>>,
    bell: Notify,
}

impl Waiting {
    /// One more, unless it is there.
    pub(super) fn push(&self, key: &ShareKey) {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        self.bell.notify_one();
    }

    /// Takes those that nobody serves.
    fn take(&self, served: &BTreeSet<ShareKey>) -> Vec<ShareKey> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let taken: Vec<_> = keys.iter().filter(|key| !served.contains(*key)).cloned().collect();
        keys.retain(|key| served.contains(key));
        taken
    }
}

/// What it is made of.
pub struct DeadLettersParts {
    /// Whose records.
    pub shares: Arc<SharePartitions>,
    /// The logs.
    pub partitions: Arc<Partitions>,
    /// Where the topics are, and are made.
    pub metadata: SharedMetadata,
    /// `errors.deadletterqueue.*`, `num.partitions`.
    pub config: Arc<BrokerConfig>,
    /// Times of the dead letters.
    pub clock: SharedClock,
    /// Ids of topics.
    pub random: SharedRandom,
}

/// See the module.
pub struct DeadLetters {
    parts: DeadLettersParts,
    writers: Semaphore,
    /// What was last said of a group, so that it is said once.
    told: Mutex<BTreeMap<Arc<str>, String>>,
}

/// What became of one batch.
enum Step {
    /// It is written.
    Written,
    /// Nothing waits any more.
    Idle,
    /// Somebody else has the share partition, or it is gone.
    Gone,
    /// To be tried again.
    Later(String),
}

/// How a share partition fared lately.
struct Course {
    wait: Duration,
    failed_reads: u32,
}

impl DeadLetters {
    /// Starts the task.
    pub fn start(parts: DeadLettersParts, tasks: &Tasks) {
        let letters = Self { parts, writers: Semaphore::new(WRITERS), told: Mutex::default() };
        let stopping = tasks.stopping();
        tasks.spawn("share-dead-letters", async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = letters.run() => {}
            }
        });
    }

    async fn run(&self) {
        let waiting = Arc::clone(self.parts.shares.waiting());
        let mut serving = FuturesUnordered::new();
        let mut served = BTreeSet::new();
        loop {
            for key in waiting.take(&served) {
                served.insert(key.clone());
                serving.push(self.serve(key));
            }
            tokio::select! {
                Some(key) = serving.next(), if !serving.is_empty() => drop(served.remove(&key)),
                () = waiting.bell.notified() => {}
            }
        }
    }

    /// Writes all dead letters of a share partition, however long that takes.
    async fn serve(&self, key: ShareKey) -> ShareKey {
        let mut course = Course { wait: RETRY_FIRST, failed_reads: 0 };
        while let Some(share) = self.parts.shares.get(&key) {
            let step = match self.writers.acquire().await {
                Ok(_permit) => self.step(&share, &mut course).await,
                Err(_) => Step::Gone,
            };
            match step {
                Step::Written => course = Course { wait: RETRY_FIRST, failed_reads: 0 },
                Step::Idle | Step::Gone => break,
                Step::Later(why) => {
                    metrics::counter!(SHARE_DEAD_LETTER_RETRIES.name, "group" => key.group.to_string()).increment(1);
                    self.tell(&key, format!("dead letters of a share group wait: {why}"));
                    tokio::time::sleep(course.wait).await;
                    course.wait = (course.wait * 2).min(RETRY_LAST);
                }
            }
        }
        key
    }

    /// Writes one batch.
    async fn step(&self, share: &SharePartition, course: &mut Course) -> Step {
        let waiting = share.archiving(BATCH_RUNS);
        let (Some(first), Some(last)) = (waiting.first(), waiting.last()) else { return Step::Idle };
        let image = self.parts.metadata.image();
        let target = match self.target(&share.key().group, &image) {
            Ok(target) if target.exists => target,
            Ok(target) => return self.create(&target.topic).await,
            Err(why) => {
                let records = waiting.iter().map(|run| run.last.abs_diff(run.first) + 1).sum();
                self.give_up(share.key(), records, &why.to_string());
                return settle(share, first.first, last.last).await;
            }
        };
        match self.append(share, &waiting, &target, course).await {
            Ok(letters) => {
                crash_point::reach(CrashPoint::DeadLetterAfterAppend);
                metrics::counter!(SHARE_DEAD_LETTERS.name, "group" => share.key().group.to_string())
                    .increment(letters.count);
                self.told().remove(&share.key().group);
                settle(share, first.first, letters.last).await
            }
            Err(Failed::Later(why)) => Step::Later(why),
            Err(Failed::Never { why, records, last }) => {
                self.give_up(share.key(), records, &why);
                settle(share, first.first, last).await
            }
        }
    }

    fn target(&self, group: &str, image: &Image) -> Result<Target, NoTarget> {
        target::target(group, &self.parts.config, image, |topic| {
            let dynamic = crate::config::layers::Dynamic::of(&image.broker_configs, self.parts.config.node_id);
            TopicConfig::resolve(&self.parts.config, dynamic, &topic.name, &topic.config).takes_dead_letters
        })
    }

    /// Appends the dead letters of the first records, and waits until they are durable.
    async fn append(
        &self,
        share: &SharePartition,
        waiting: &[Archiving],
        target: &Target,
        course: &mut Course,
    ) -> Result<Letters, Failed> {
        let key = share.key();
        let count = self.parts.metadata.image().topic(&target.topic).map_or(0, |topic| topic.partition_count);
        let to = self
            .parts
            .partitions
            .by_name(&target.topic, key.partition.checked_rem(count).unwrap_or(0))
            .ok_or_else(|| Failed::Later(format!("'{}' is not here yet", target.topic)))?;
        let limits = self.parts.shares.limits(&key.group);
        let most_bytes = BATCH_BYTES.min(usize::try_from(to.topic_config().max_message_bytes).unwrap_or(usize::MAX));
        let found = match target.copies && course.failed_reads < READS {
            true => source::find(share, waiting, &limits, most_bytes).await.map_err(|error| {
                course.failed_reads += 1;
                Failed::Later(format!("a record cannot be read: {error:?}"))
            })?,
            false => Found::nothing(),
        };
        let origin = Origin {
            group: Arc::clone(&key.group),
            topic: Arc::clone(share.partition().topic_name()),
            partition: key.partition,
            count_limit: limits.delivery_count_limit,
        };
        let now_ms = self.parts.clock.now_ms();
        let letters = letter::write(&origin, waiting, &found.copied, found.read_to, most_bytes, now_ms);
        let mut letters = letters.ok_or_else(|| Failed::Later("nothing can be read".to_owned()))?;
        to.opened().await;
        let appended =
            to.append(&mut letters.batch, AppendOrigin::Client, None).map_err(|error| match is_final(&error) {
                true => Failed::Never { why: error.to_string(), records: letters.count, last: letters.last },
                false => Failed::Later(error.to_string()),
            })?;
        appended.ticket.wait().await.map_err(|rejected| Failed::Later(format!("{rejected:?}")))?;
        Ok(letters)
    }

    /// Makes the topic as Kafka does; who comes again finds it.
    async fn create(&self, name: &str) -> Step {
        let config = [("errors.deadletterqueue.group.enable", "true"), ("message.timestamp.type", "CreateTime")];
        let topic = Topic {
            id: self.parts.random.uuid(),
            name: Arc::from(name),
            partition_count: self.parts.config.topics.partitions,
            replication_factor: 1,
            config: config.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        };
        match self.parts.metadata.commit(None, vec![Change::CreateTopic(topic)]).await {
            Ok(image) => {
                self.parts.partitions.follow(&image);
                Step::Written
            }
            Err(CommitError::TopicExists(_)) => Step::Written,
            Err(error) => Step::Later(format!("'{name}' cannot be made: {error}")),
        }
    }

    fn give_up(&self, key: &ShareKey, records: u64, why: &str) {
        metrics::counter!(SHARE_DEAD_LETTERS_FAILED.name, "group" => key.group.to_string()).increment(records);
        self.tell(key, format!("records of a share group are archived without dead letters: {why}"));
    }

    fn told(&self) -> std::sync::MutexGuard<'_, BTreeMap<Arc<str>, String>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says it unless it was the last that was said of the group.
    fn tell(&self, key: &ShareKey, what: String) {
        let mut told = self.told();
        if told.get(&key.group) != Some(&what) {
            tracing::warn!(group = %key.group, topic = %key.topic, partition = key.partition, "{what}");
            told.insert(Arc::clone(&key.group), what);
        }
    }
}

/// Why a batch is not written.
enum Failed {
    /// It may be later.
    Later(String),
    /// These records never will.
    Never { why: String, records: u64, last: Offset },
}

/// The dead letters up to `last` are durable, or there are to be none: the share coordinator is told until it knows, so that
/// they are not written again.
async fn settle(share: &SharePartition, first: Offset, last: Offset) -> Step {
    let mut wait = RETRY_FIRST;
    loop {
        match share.archive(first, last).await {
            Ok(()) => return Step::Written,
            Err(ErrorCode::CoordinatorNotAvailable) => {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_LAST);
            }
            // The offsets were set, or the group or the topic is gone.
            Err(_) => return Step::Gone,
        }
    }
}

/// Would the same bytes be refused again?
fn is_final(error: &AppendError) -> bool {
    match error {
        AppendError::Corrupt(_)
        | AppendError::InvalidRecord(_)
        | AppendError::BadRecords(_)
        | AppendError::InvalidTimestamp { .. }
        | AppendError::TooLarge { .. }
        | AppendError::LargerThanSegment { .. }
        | AppendError::UnsupportedCompression(_)
        | AppendError::Producer(_) => true,
        AppendError::FencedLeaderEpoch { .. }
        | AppendError::UnknownLeaderEpoch { .. }
        | AppendError::Storage
        | AppendError::DiskFull
        | AppendError::Fenced
        | AppendError::Gone => false,
    }
}
