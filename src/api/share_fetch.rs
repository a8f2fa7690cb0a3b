//! ShareFetch 1-2: records for a member of a share group, and what it says of earlier ones (KIP-932).
//!
//! Versions: 2 the acquire mode (KIP-1206), renewed locks (KIP-1222). At `share.version` 0 it is answered
//! UNSUPPORTED_VERSION.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::select_all;
use kafka_protocol::messages::share_fetch_response::{
    AcquiredRecords, PartitionData, ShareFetchResponse, ShareFetchableTopicResponse,
};
use tokio::time::Instant;
use uuid::Uuid;

use super::share_acknowledgements::{self, Outcomes, said};
use super::{Call, Disconnect, Frame, Node, encode};
use crate::group::consumer::Partitions;
use crate::group::shard::StatesChange;
use crate::metadata::features::Feature;
use crate::metadata::image::Image;
use crate::partition::waiters::{Watch, Watcher};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::share::ShareFetchRequest;
use crate::share::partition::{SharePartition, Turn};
use crate::share::sessions::{CLOSES, OPENS, SessionKey, TopicPartition};
use crate::share::settings::ShareLimits;
use crate::share::state::records::ShareKey;
use crate::share::{Acquire, Given, Reader};

/// The newest version that the crate writes; later ones have the same bytes.
const ANSWER_VERSION: i16 = 1;
/// `ShareAcquireMode`: not one record more than asked for.
const RECORD_LIMIT: i8 = 1;
/// Most bytes of records in an answer, but for one batch: unlike those of a Fetch they are in memory until it is sent.
const ANSWER_BYTES: u32 = 4 << 20;

/// Share partitions that are opened at a time: each may wait for its log and its share coordinator.
const OPENED_AT_ONCE: usize = 64;
/// So often a share partition is opened that others forget meanwhile.
const OPENINGS: u32 = 3;

/// What the partitions gave, one by one.
type Fetched = Vec<(TopicPartition, Result<Given, ErrorCode>)>;

/// A partition that is asked for, and whether it can be read.
type Opened = (TopicPartition, Result<Arc<SharePartition>, ErrorCode>);

/// Why a partition cannot be read.
#[derive(Debug, Clone, Copy)]
enum Unopened {
    Refused(ErrorCode),
    /// The share coordinator keeps no state of it.
    Stateless,
}

impl Unopened {
    fn code(self) -> ErrorCode {
        match self {
            Self::Refused(error) => error,
            Self::Stateless => ErrorCode::UnknownTopicOrPartition,
        }
    }
}

/// A look at all partitions.
struct Look<'o> {
    fetched: Fetched,
    /// Where another member was reading.
    busy: Vec<&'o SharePartition>,
    /// One of them has to be opened again.
    has_dead: bool,
}

impl<'o> Look<'o> {
    /// Is there something to tell?
    fn has_some(&self) -> bool {
        self.fetched.iter().any(|(_, given)| given.as_ref().map_or(true, |given| !given.acquired.is_empty()))
    }

    /// The turn at the first of the busy ones that is free, and which it is. Whoever lets go of it before reading hands it to
    /// the next in line, so it is kept for the next look.
    async fn turn(&self) -> (&'o SharePartition, Turn<'o>) {
        if self.busy.is_empty() {
            return std::future::pending().await;
        }
        let turns = self.busy.iter().map(|one| Box::pin(async { (*one, one.turn().await) }));
        select_all(turns).await.0
    }
}

/// Reads and answers one request.
pub async fn serve(node: &Node, call: &Call, body: Bytes) -> Result<Frame, Disconnect> {
    let request =
        ShareFetchRequest::decode(call.version, &body).map_err(|error| Disconnect::Malformed(error.to_string()))?;
    let response = match handle(node, call, request).await {
        Ok(response) => response,
        Err(error) => ShareFetchResponse::default().with_error_code(error.code()),
    };
    encode(call, ANSWER_VERSION, &response)
}

async fn handle(node: &Node, call: &Call, request: ShareFetchRequest) -> Result<ShareFetchResponse, ErrorCode> {
    if node.metadata.image().features.level(Feature::Share) < 1 {
        return Err(ErrorCode::UnsupportedVersion);
    }
    let key = session_key(request.group_id.as_deref(), request.member_id.as_deref())?;
    let epoch = request.session_epoch;
    let speaks = request.partitions.iter().any(|partition| !partition.batches.is_empty());
    let asks_nothing = request.max_bytes == 0 && request.max_records == 0;
    if (epoch == OPENS && speaks) || (request.is_renew && !(asks_nothing && request.max_wait_ms == 0)) {
        return Err(ErrorCode::InvalidRequest);
    }
    let limits = node.shares.limits(&key.group);
    let named: Vec<TopicPartition> = request.partitions.iter().map(|one| (one.topic, one.partition)).collect();
    if epoch == CLOSES {
        node.share_sessions.check(&key)?;
        let outcomes = share_acknowledgements::apply(node, &key, &request.partitions, request.is_renew, &limits).await;
        share_acknowledgements::close(node, &key).await;
        return Ok(response(outcomes, Vec::new(), &limits));
    }
    let (named, refused) = there_and_not(&node.metadata.image(), named);
    let begun = node.share_sessions.fetch(&key, epoch, &named, &request.forgotten, call.peer)?;
    if let Some(replaced) = begun.replaced {
        share_acknowledgements::release(node, &replaced).await;
    }
    let outcomes = share_acknowledgements::apply(node, &key, &request.partitions, request.is_renew, &limits).await;
    let fetch = ShareFetch { node, key, session: begun.id, limits, partitions: begun.partitions };
    let may_wait = outcomes.is_empty() && refused.is_empty();
    let mut fetched = if request.max_records > 0 { fetch.run(&request, may_wait).await } else { Vec::new() };
    fetched.extend(refused.into_iter().map(|(one, error)| (one, Err(error))));
    Ok(response(outcomes, fetched, &limits))
}

/// Those that there are, and why not those that there are not: these no session keeps, so that its size is not up to who asks.
fn there_and_not(image: &Image, named: Vec<TopicPartition>) -> (Vec<TopicPartition>, Vec<(TopicPartition, ErrorCode)>) {
    let (mut there, mut refused) = (Vec::new(), Vec::new());
    for one in named {
        match check(image, one) {
            Ok(()) => there.push(one),
            Err(error) => refused.push((one, error)),
        }
    }
    (there, refused)
}

fn check(image: &Image, (topic, partition): TopicPartition) -> Result<(), ErrorCode> {
    let known = image.topic_by_id(&topic).ok_or(ErrorCode::UnknownTopicId)?;
    let there = (0..known.partition_count).contains(&partition);
    there.then_some(()).ok_or(ErrorCode::UnknownTopicOrPartition)
}

/// Who asks; INVALID_REQUEST without a group or a member.
pub(super) fn session_key(group: Option<&str>, member: Option<&str>) -> Result<SessionKey, ErrorCode> {
    match (group, member) {
        (Some(group), Some(member)) if !group.is_empty() && !member.is_empty() => {
            Ok(SessionKey { group: group.into(), member: member.into() })
        }
        _ => Err(ErrorCode::InvalidRequest),
    }
}

/// One ShareFetch on its way.
struct ShareFetch<'a> {
    node: &'a Node,
    key: SessionKey,
    session: u64,
    limits: ShareLimits,
    partitions: Vec<TopicPartition>,
}

impl ShareFetch<'_> {
    /// Acquires records; with `may_wait` not before there are some, or the time is over.
    async fn run(&self, request: &ShareFetchRequest, may_wait: bool) -> Fetched {
        let max_wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
        let deadline = Instant::now() + if may_wait { max_wait } else { Duration::ZERO };
        loop {
            if let Some(fetched) = self.look_until(deadline, request).await {
                return fetched;
            }
        }
    }

    /// `None` when a partition has to be opened again before its records can be told.
    async fn look_until(&self, deadline: Instant, request: &ShareFetchRequest) -> Option<Fetched> {
        let opened = self.open_all().await;
        let watcher = Watcher::new();
        let watched = opened.iter().enumerate().filter_map(|(at, (_, opened))| {
            let partition = opened.as_ref().ok()?.partition();
            Some(partition.watch(&watcher, u32::try_from(at).unwrap_or(u32::MAX), None))
        });
        let _watches: Vec<Watch> = watched.collect();
        let bell = self.node.shares.bell(&self.key.group);
        let mut turn = None;
        loop {
            // Before the look, so that what happens behind it is not missed.
            let rung = bell.notified();
            let mut rung = std::pin::pin!(rung);
            rung.as_mut().enable();
            watcher.take_moved(drop);
            watcher.arm(1, self.limits.isolation);
            let look = self.acquire_all(&opened, request, turn.take()).await;
            if look.has_some() || Instant::now() >= deadline || !self.is_live() {
                watcher.disarm();
                return Some(look.fetched);
            }
            if look.has_dead {
                watcher.disarm();
                return None;
            }
            if watcher.has_moved() {
                continue;
            }
            tokio::select! {
                _ = watcher.wait(deadline) => {}
                () = rung => {}
                given = look.turn() => turn = Some(given),
            }
        }
    }

    /// Records for a session that is gone would be held by nobody.
    fn is_live(&self) -> bool {
        self.node.share_sessions.is_live(&self.key, self.session)
    }

    async fn open_all(&self) -> Vec<Opened> {
        let open = self.partitions.iter().copied().map(|one| async move { (one, self.open(one).await) });
        let opened: Vec<_> = futures::stream::iter(open).buffered(OPENED_AT_ONCE).collect().await;
        let mut missing = Partitions::new();
        for ((topic, partition), _) in opened.iter().filter(|(_, opened)| matches!(opened, Err(Unopened::Stateless))) {
            missing.entry(*topic).or_default().insert(*partition);
        }
        if !missing.is_empty() {
            // What the group thinks to have a state is begun anew by the next heartbeat. That it is not told is no harm: it is
            // asked for again.
            let change = StatesChange::Missing(missing);
            let _ = self.node.groups.change_share_states(Arc::clone(&self.key.group), change).await;
        }
        opened.into_iter().map(|(one, opened)| (one, opened.map_err(Unopened::code))).collect()
    }

    async fn open(&self, (topic, partition): TopicPartition) -> Result<Arc<SharePartition>, Unopened> {
        check(&self.node.metadata.image(), (topic, partition)).map_err(Unopened::Refused)?;
        let key = self.share_key((topic, partition));
        for _ in 0..OPENINGS {
            let share = self.node.shares.open(&key).map_err(Unopened::Refused)?;
            share.partition().opened().await;
            match share.load(&self.limits, self.node.shares.now()).await {
                Ok(()) => return Ok(share),
                // Another found that first, and told its own member.
                Err(ErrorCode::NotLeaderOrFollower) if share.is_dead() => {}
                Err(error) => {
                    // Groups that nobody assigned anything leave nothing behind.
                    self.node.shares.forget_this(&share);
                    return Err(match error {
                        ErrorCode::UnknownTopicOrPartition => Unopened::Stateless,
                        error => Unopened::Refused(error),
                    });
                }
            }
        }
        Err(Unopened::Refused(ErrorCode::NotLeaderOrFollower))
    }

    fn share_key(&self, (topic, partition): TopicPartition) -> ShareKey {
        ShareKey { group: Arc::clone(&self.key.group), topic, partition }
    }

    async fn acquire_all<'o>(
        &self,
        opened: &'o [Opened],
        request: &ShareFetchRequest,
        mut turn: Option<(&'o SharePartition, Turn<'o>)>,
    ) -> Look<'o> {
        let most = u32::try_from(request.max_bytes).unwrap_or(0).min(self.node.config.requests.fetch_bytes_max);
        let most = most.min(ANSWER_BYTES);
        let mut bytes = u64::from(most);
        let mut records = u64::try_from(request.max_records).unwrap_or(0);
        let exact = request.acquire_mode == RECORD_LIMIT;
        let mut look = Look { fetched: Fetched::new(), busy: Vec::new(), has_dead: false };
        for (left, (one, share)) in (1..=opened.len() as u64).rev().zip(opened) {
            let share = match share {
                Ok(share) => share,
                Err(error) => {
                    look.fetched.push((*one, Err(*error)));
                    continue;
                }
            };
            if records == 0 || bytes == 0 || !self.is_live() {
                continue;
            }
            if share.is_dead() {
                look.has_dead = true;
                continue;
            }
            // What one leaves is the others'.
            let ask = Acquire { most: records, exact, bytes: bytes.div_ceil(left) };
            let own = turn.take_if(|(of, _)| std::ptr::eq(*of, &raw const **share)).map(|(_, turn)| turn);
            let Some(turn) = own.or_else(|| share.try_turn()) else {
                look.busy.push(share);
                continue;
            };
            let reader = Reader { member: &self.key.member, is_live: &|| self.is_live() };
            match share.acquire(turn, reader, ask, &self.limits, self.node.shares.now()).await {
                Ok(given) => {
                    let count: u64 = given.acquired.iter().map(|some| some.last.abs_diff(some.first) + 1).sum();
                    records = records.saturating_sub(count);
                    bytes = bytes.saturating_sub(given.records.len() as u64);
                    self.node.shares.watch_locks(&self.share_key(*one), share);
                    look.fetched.push((*one, Ok(given)));
                }
                Err(_) if share.is_dead() => look.has_dead = true,
                Err(error) => look.fetched.push((*one, Err(error))),
            }
        }
        look
    }
}

fn response(outcomes: Outcomes, fetched: Fetched, limits: &ShareLimits) -> ShareFetchResponse {
    let mut rows: HashMap<Uuid, HashMap<i32, PartitionData>> = HashMap::new();
    let row = |rows: &mut HashMap<Uuid, HashMap<i32, PartitionData>>, (topic, partition): TopicPartition| {
        let rows = rows.entry(topic).or_default();
        rows.remove(&partition).unwrap_or_else(|| {
            PartitionData::default().with_partition_index(partition).with_records(Some(Bytes::new()))
        })
    };
    for ((topic, partition), outcome) in outcomes {
        let data = row(&mut rows, (topic, partition)).with_acknowledge_error_code(said(outcome));
        rows.entry(topic).or_default().insert(partition, data);
    }
    for ((topic, partition), given) in fetched {
        let data = row(&mut rows, (topic, partition));
        let data = match given {
            Ok(given) => {
                let acquired = given.acquired.into_iter().map(|some| {
                    AcquiredRecords::default()
                        .with_first_offset(some.first)
                        .with_last_offset(some.last)
                        .with_delivery_count(some.count)
                });
                data.with_acquired_records(acquired.collect()).with_records(Some(given.records))
            }
            Err(error) => data.with_error_code(error.code()),
        };
        rows.entry(topic).or_default().insert(partition, data);
    }
    let topics = rows.into_iter().map(|(topic, partitions)| {
        ShareFetchableTopicResponse::default().with_topic_id(topic).with_partitions(partitions.into_values().collect())
    });
    ShareFetchResponse::default()
        .with_acquisition_lock_timeout_ms(i32::try_from(limits.record_lock.as_millis()).unwrap_or(i32::MAX))
        .with_responses(topics.collect())
}
