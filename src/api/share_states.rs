//! The states of a share group's partitions, which the share coordinator keeps, in step with what the group knows of them.
//!
//! What is done here goes through the logs of both, so those who do it take turns in each group. A deletion is written into
//! the group first and its end last: one that did not come to its end is finished by whoever has the next turn, and what is
//! under deletion is not begun before.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use uuid::Uuid;

use super::Node;
use crate::group::consumer::Partitions;
use crate::group::coordinator::StatesTurn;
use crate::group::shard::StatesChange;
use crate::group::share::records::StatePartitions;
use crate::protocol::error_code::ErrorCode;
use crate::share::state::records::ShareKey;
use crate::share::state::shard::Initialized;

/// States that are begun or forgotten at a time.
const AT_ONCE: usize = 64;
/// As the configuration of the group says, when the partition is read first.
const BY_CONFIGURATION: i64 = -1;
/// A heartbeat waits no longer for others that are at it: its member would count as dead.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Has the share coordinator keep `wanted`, which members subscribe to.
pub(super) async fn initialize(node: &Node, group: &Arc<str>, wanted: &Partitions) -> Result<(), ErrorCode> {
    let turn = tokio::time::timeout(LONGEST_WAIT, node.groups.states_turn(group)).await;
    let turn = turn.map_err(|_| ErrorCode::CoordinatorNotAvailable)?;
    let states = node.groups.share_states(Arc::clone(group), false).await.map_err(|refused| refused.code)?;
    finish_deleting(node, &turn, &states).await?;
    // Others that waited for the same had it done meanwhile.
    let lacking = states.lacking(wanted);
    if lacking.is_empty() {
        return Ok(());
    }
    change(node, &turn, StatesChange::Initializing(lacking.clone())).await?;
    let begin = Initialized { state_epoch: 0, start_offset: BY_CONFIGURATION };
    let each = keys(group, lacking).map(|key| async move {
        match node.shares.states().initialize(key.clone(), begin).await {
            // Its offsets were set since: that is a state too.
            Ok(()) | Err(ErrorCode::FencedStateEpoch) => Ok(key),
            Err(error) => Err(error),
        }
    });
    let begun: Vec<_> = futures::stream::iter(each).buffer_unordered(AT_ONCE).collect().await;
    let mut done = Partitions::new();
    let mut failed = Ok(());
    for one in begun {
        match one {
            Ok(key) => _ = done.entry(key.topic).or_default().insert(key.partition),
            Err(error) => failed = Err(error),
        }
    }
    change(node, &turn, StatesChange::Initialized(done)).await?;
    failed
}

/// Has the states of `topics` forgotten. NON_EMPTY_GROUP while it has members. That they are forgotten is left to be said:
/// with [`StatesChange::Deleted`], or by the end of the group.
pub(super) async fn forget(
    node: &Node,
    turn: &StatesTurn,
    states: &StatePartitions,
    topics: &[Uuid],
) -> Result<(), ErrorCode> {
    change(node, turn, StatesChange::Deleting(topics.to_vec())).await?;
    delete(node, turn, states, topics).await
}

/// Finishes what a crash or a failure left.
pub(super) async fn finish_deleting(node: &Node, turn: &StatesTurn, states: &StatePartitions) -> Result<(), ErrorCode> {
    if states.deleting.is_empty() {
        return Ok(());
    }
    let topics: Vec<Uuid> = states.deleting.keys().copied().collect();
    delete(node, turn, states, &topics).await?;
    change(node, turn, StatesChange::Deleted(topics)).await
}

/// Writes into the group what has become of states.
pub(super) async fn change(node: &Node, turn: &StatesTurn, change: StatesChange) -> Result<(), ErrorCode> {
    node.groups.change_share_states(Arc::clone(turn.group()), change).await
}

async fn delete(node: &Node, turn: &StatesTurn, states: &StatePartitions, topics: &[Uuid]) -> Result<(), ErrorCode> {
    let image = node.metadata.image();
    let of_topic = |topic: &Uuid| {
        let known = states.initialized.get(topic).into_iter().chain(states.initializing.get(topic));
        // The group does not say any more which partitions those are whose deletion it began.
        let begun = image.topic_by_id(topic).filter(|_| states.deleting.contains_key(topic));
        let begun = 0..begun.map_or(0, |topic| topic.partition_count);
        let partitions: BTreeSet<i32> = known.flat_map(|known| known.partitions.iter().copied()).chain(begun).collect();
        (*topic, partitions)
    };
    let each = keys(turn.group(), topics.iter().map(of_topic).collect()).map(|key| async move {
        let outcome = node.shares.states().delete(key.clone()).await;
        node.shares.forget(&key);
        outcome
    });
    let outcomes: Vec<_> = futures::stream::iter(each).buffer_unordered(AT_ONCE).collect().await;
    outcomes.into_iter().collect()
}

fn keys(group: &Arc<str>, partitions: Partitions) -> impl Iterator<Item = ShareKey> {
    let of = |(topic, partitions): (Uuid, BTreeSet<i32>)| partitions.into_iter().map(move |one| (topic, one));
    partitions.into_iter().flat_map(of).map(|(topic, partition)| ShareKey {
        group: Arc::clone(group),
        topic,
        partition,
    })
}
