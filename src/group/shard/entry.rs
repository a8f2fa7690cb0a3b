//! One group of a shard, of whatever protocol.

use std::sync::Arc;

use crate::group::classic::{CONSUMER_PROTOCOL, ClassicGroup};
use crate::group::consumer::ConsumerGroup;
use crate::group::offsets::ExpiryBase;
use crate::group::records::{GroupMetadata, Record};
use crate::group::share::ShareGroup;
use crate::group::share::records::ShareRecord;
use crate::group::streams::StreamsGroup;
use crate::group::streams::records::StreamsRecord;

/// Protocol type of a share group in ListGroups.
const SHARE_PROTOCOL: &str = "share";
/// The same of a streams group.
const STREAMS_PROTOCOL: &str = "streams";

/// See the module.
#[derive(Debug)]
pub(super) enum Entry {
    /// Of the classic protocol, or with offsets alone.
    Classic {
        /// The group.
        live: ClassicGroup,
        /// What the log has of it; none for a group that only has offsets.
        logged: Option<GroupMetadata>,
    },
    /// Of the consumer protocol.
    Consumer(ConsumerGroup),
    /// A share group.
    Share(ShareGroup),
    /// A streams group.
    Streams(StreamsGroup),
}

impl Entry {
    pub(super) fn classic(&self) -> Option<&ClassicGroup> {
        match self {
            Self::Classic { live, .. } => Some(live),
            Self::Consumer(_) | Self::Share(_) | Self::Streams(_) => None,
        }
    }

    pub(super) fn classic_mut(&mut self) -> Option<&mut ClassicGroup> {
        match self {
            Self::Classic { live, .. } => Some(live),
            Self::Consumer(_) | Self::Share(_) | Self::Streams(_) => None,
        }
    }

    pub(super) fn consumer(&self) -> Option<&ConsumerGroup> {
        match self {
            Self::Classic { .. } | Self::Share(_) | Self::Streams(_) => None,
            Self::Consumer(group) => Some(group),
        }
    }

    pub(super) fn consumer_mut(&mut self) -> Option<&mut ConsumerGroup> {
        match self {
            Self::Classic { .. } | Self::Share(_) | Self::Streams(_) => None,
            Self::Consumer(group) => Some(group),
        }
    }

    pub(super) fn share(&self) -> Option<&ShareGroup> {
        match self {
            Self::Classic { .. } | Self::Consumer(_) | Self::Streams(_) => None,
            Self::Share(group) => Some(group),
        }
    }

    pub(super) fn share_mut(&mut self) -> Option<&mut ShareGroup> {
        match self {
            Self::Classic { .. } | Self::Consumer(_) | Self::Streams(_) => None,
            Self::Share(group) => Some(group),
        }
    }

    pub(super) fn streams(&self) -> Option<&StreamsGroup> {
        match self {
            Self::Classic { .. } | Self::Consumer(_) | Self::Share(_) => None,
            Self::Streams(group) => Some(group),
        }
    }

    pub(super) fn streams_mut(&mut self) -> Option<&mut StreamsGroup> {
        match self {
            Self::Classic { .. } | Self::Consumer(_) | Self::Share(_) => None,
            Self::Streams(group) => Some(group),
        }
    }

    pub(super) fn next_due(&self) -> Option<u64> {
        match self {
            Self::Classic { live, .. } => live.next_due(),
            Self::Consumer(group) => group.next_due(),
            Self::Share(group) => group.next_due(),
            Self::Streams(group) => group.next_due(),
        }
    }

    /// Does nothing hold it but its offsets?
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Classic { live, .. } => live.is_empty(),
            Self::Consumer(group) => group.is_empty(),
            Self::Share(group) => group.is_empty(),
            Self::Streams(group) => group.is_empty(),
        }
    }

    /// Has it neither members nor anyone who was promised to become one? A share group stays until it is deleted: what it
    /// has read is kept elsewhere.
    pub(super) fn is_idle(&self) -> bool {
        match self {
            Self::Classic { live, .. } => live.is_idle(),
            Self::Consumer(group) => group.is_empty(),
            Self::Share(_) => false,
            Self::Streams(group) => group.is_empty(),
        }
    }

    pub(super) fn is_subscribed_to(&self, topic: &str) -> bool {
        match self {
            Self::Classic { live, .. } => live.is_subscribed_to(topic),
            Self::Consumer(group) => group.is_subscribed_to(topic),
            Self::Share(group) => group.is_subscribed_to(topic),
            Self::Streams(group) => group.is_subscribed_to(topic),
        }
    }

    /// May members of the classic protocol be in it?
    pub(super) fn has_classic_members(&self) -> bool {
        match self {
            Self::Classic { .. } | Self::Consumer(_) => true,
            Self::Share(_) | Self::Streams(_) => false,
        }
    }

    /// Are single offsets of it deleted although it has members?
    pub(super) fn may_delete_offsets(&self) -> bool {
        match self {
            Self::Classic { live, .. } => live.is_empty() || live.uses_consumer_protocol(),
            Self::Consumer(_) | Self::Share(_) | Self::Streams(_) => true,
        }
    }

    /// From when its offsets' retention counts, `None` while they are all needed.
    pub(super) fn expiry_base(&self) -> Option<ExpiryBase> {
        match self {
            Self::Classic { live, .. } => ExpiryBase::of(live),
            Self::Consumer(_) | Self::Share(_) | Self::Streams(_) => Some(ExpiryBase::Commit),
        }
    }

    /// What the log must have so that a load gives this group.
    pub(super) fn logged(&self, id: &Arc<str>) -> Vec<Record> {
        match self {
            Self::Classic { logged, .. } => {
                logged.iter().map(|logged| Record::Group(Arc::clone(id), Some(logged.clone()))).collect()
            }
            Self::Consumer(group) => of_group(id, group.logged()).collect(),
            Self::Share(group) => of_share_group(id, group.logged()).collect(),
            Self::Streams(group) => of_streams_group(id, group.logged()).collect(),
        }
    }

    /// What ends the group in the log.
    pub(super) fn tombstones(&self, id: &Arc<str>) -> Vec<Record> {
        match self {
            Self::Classic { .. } => vec![Record::Group(Arc::clone(id), None)],
            Self::Consumer(group) => of_group(id, group.tombstones()).collect(),
            Self::Share(group) => of_share_group(id, group.tombstones()).collect(),
            Self::Streams(group) => of_streams_group(id, group.tombstones()).collect(),
        }
    }

    /// "classic", "consumer", "share" or "streams".
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Classic { .. } => "classic",
            Self::Consumer(_) => "consumer",
            Self::Share(_) => "share",
            Self::Streams(_) => "streams",
        }
    }

    pub(super) fn state_name(&self) -> &'static str {
        match self {
            Self::Classic { live, .. } => live.state().name(),
            Self::Consumer(group) => group.state().name(),
            Self::Share(group) => group.state_name(),
            Self::Streams(group) => group.state().name(),
        }
    }

    pub(super) fn protocol_type(&self) -> Arc<str> {
        match self {
            Self::Classic { live, .. } => live.protocol_type().cloned().unwrap_or_default(),
            Self::Consumer(_) => CONSUMER_PROTOCOL.into(),
            Self::Share(_) => SHARE_PROTOCOL.into(),
            Self::Streams(_) => STREAMS_PROTOCOL.into(),
        }
    }
}

/// Records of one consumer group as records of the shard.
pub(super) fn of_group(
    id: &Arc<str>,
    records: impl IntoIterator<Item = crate::group::consumer::records::ConsumerRecord>,
) -> impl Iterator<Item = Record> {
    let id = Arc::clone(id);
    records.into_iter().map(move |record| Record::Consumer(Arc::clone(&id), record))
}

/// The same for a share group.
pub(super) fn of_share_group(
    id: &Arc<str>,
    records: impl IntoIterator<Item = ShareRecord>,
) -> impl Iterator<Item = Record> {
    let id = Arc::clone(id);
    records.into_iter().map(move |record| Record::Share(Arc::clone(&id), record))
}

/// The same for a streams group.
pub(super) fn of_streams_group(
    id: &Arc<str>,
    records: impl IntoIterator<Item = StreamsRecord>,
) -> impl Iterator<Item = Record> {
    let id = Arc::clone(id);
    records.into_iter().map(move |record| Record::Streams(Arc::clone(&id), record))
}
