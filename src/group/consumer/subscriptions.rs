//! What the members subscribe to, and the group epoch that rises with it.

use std::collections::BTreeSet;
use std::sync::Arc;

use uuid::Uuid;

use super::member::Subscription;
use super::records::{ConsumerRecord, GroupEpoch, Resolved};
use super::topic_hash::metadata_hash;
use super::{ConsumerGroup, Draft, Refused, Surroundings, regex};
use crate::metadata::image::Image;
use crate::protocol::error_code::ErrorCode;

/// Expressions of a group are not resolved more often than this, however its members change.
const RESOLVE_INTERVAL_MS_MIN: i64 = 10_000;

/// How a request changed what a member subscribes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// Other topics by name.
    names: bool,
    /// Another expression.
    regex: bool,
    /// What the other expression means is known at once: another member has it, or there is none any more.
    resolved: bool,
}

impl Changed {
    /// Anything?
    pub(super) fn any(self) -> bool {
        self.names || self.regex
    }

    /// Does the group's epoch rise at once? For an expression that must be resolved first it rises with the result.
    pub(super) fn bumps(self) -> bool {
        self.names || self.resolved
    }
}

impl ConsumerGroup {
    /// The topics of one subscription: those it names, and those its expression was last resolved to.
    fn subscribed_names<'g>(&'g self, subscription: &'g Subscription) -> impl Iterator<Item = &'g Arc<str>> {
        let resolved = subscription.regex().and_then(|expression| self.resolved.get(expression));
        subscription.topics.iter().chain(resolved.into_iter().flat_map(|resolved| &resolved.topics))
    }

    /// The ids of those that exist.
    pub(super) fn subscribed_ids(&self, subscription: &Subscription, image: &Image) -> BTreeSet<Uuid> {
        self.subscribed_names(subscription).filter_map(|name| image.topic(name)).map(|topic| topic.id).collect()
    }

    fn expressions(&self) -> BTreeSet<&Arc<str>> {
        self.members.values().filter_map(|member| member.subscription.regex()).collect()
    }

    /// Members with this expression.
    pub(super) fn members_with_regex(&self, expression: &str) -> usize {
        let same = |subscription: &Subscription| subscription.regex().is_some_and(|regex| &**regex == expression);
        self.members.values().filter(|member| same(&member.subscription)).count()
    }

    /// Over the metadata of all topics that members subscribe to.
    pub(super) fn metadata_hash(&self, around: &Surroundings<'_>) -> i64 {
        let by_name = self.members.values().flat_map(|member| &member.subscription.topics);
        let by_regex = self.resolved.values().flat_map(|resolved| &resolved.topics);
        let names: BTreeSet<_> = by_name.chain(by_regex).collect();
        metadata_hash(names.into_iter(), around.image, around.rack)
    }

    /// Could the expressions be resolved now, should there be a reason?
    pub(super) fn may_resolve(&self, around: &Surroundings<'_>) -> bool {
        let any = self.members.values().any(|member| member.subscription.regex().is_some());
        let last = self.resolved.values().next().map_or(i64::MIN, |resolved| resolved.timestamp);
        any && self.deadlines.resolve.is_none()
            && around.now.wall_ms > last.saturating_add(RESOLVE_INTERVAL_MS_MIN)
            && self.should_resolve(around)
    }

    fn should_resolve(&self, around: &Surroundings<'_>) -> bool {
        let Some(last) = self.resolved.values().next() else { return true };
        self.expressions().len() != self.resolved.len()
            || last.version < i64::try_from(around.new_topics.generation(around.image)).unwrap_or(i64::MAX)
            || around.now.wall_ms > last.timestamp.saturating_add(around.regex_refresh_interval_ms)
    }
}

impl Draft {
    /// Writes what the member told if it is new, and has its expression resolved if that is needed. The answer doesn't wait
    /// for that.
    pub(super) fn update_subscription(
        &mut self,
        id: &Arc<str>,
        before: &Subscription,
        updated: Subscription,
        around: &Surroundings<'_>,
    ) -> Result<Changed, Refused> {
        let mut changed = Changed::default();
        if updated != *before || self.group.member(id).is_none() {
            changed.names = updated.topics != before.topics;
            changed.regex = updated.regex != before.regex;
            self.write(ConsumerRecord::Member(Arc::clone(id), Some(updated.clone())));
        }
        if changed.regex {
            if let Some(old) = before.regex()
                && self.group.members_with_regex(old) == 0
            {
                self.write(ConsumerRecord::Regex(Arc::clone(old), None));
            }
            changed.resolved = match updated.regex() {
                None => before.regex().is_some(),
                Some(new) if self.group.members_with_regex(new) > 1 => self.group.resolved.contains_key(new),
                Some(new) => {
                    check_regex(new)?;
                    false
                }
            };
        }
        if self.group.may_resolve(around) {
            self.group.deadlines.resolve = Some(around.now.mono_ms);
        }
        Ok(changed)
    }

    /// Raises the group's epoch if `bump` says so, or if the subscribed topics changed since it last looked.
    pub(super) fn update_epoch(&mut self, bump: bool, around: &Surroundings<'_>) {
        if !bump && self.group.seen_image == Some(around.image.generation) {
            return;
        }
        let metadata_hash = self.group.metadata_hash(around);
        if bump || metadata_hash != self.group.epoch.metadata_hash {
            self.raise_epoch(metadata_hash);
        }
        self.group.seen_image = Some(around.image.generation);
        if self.group.has_partition_metadata {
            self.write(ConsumerRecord::PartitionMetadata(None));
        }
    }

    pub(super) fn raise_epoch(&mut self, metadata_hash: i64) {
        let epoch = self.group.epoch.epoch.saturating_add(1);
        self.write(ConsumerRecord::Epoch(Some(GroupEpoch { epoch, metadata_hash })));
    }

    /// Resolves the members' expressions against the topics there are.
    pub fn resolve_expressions(&mut self, around: &Surroundings<'_>) {
        self.group.deadlines.resolve = None;
        let found = regex::resolve(self.group.expressions().into_iter(), around.image);
        let mut moved = false;
        for (expression, topics) in found {
            moved |= self.group.resolved.get(&expression).map_or(!topics.is_empty(), |known| known.topics != topics);
            let version = i64::try_from(around.image.generation).unwrap_or(i64::MAX);
            let resolved = Resolved { topics, version, timestamp: around.now.wall_ms };
            self.write(ConsumerRecord::Regex(expression, Some(resolved)));
        }
        self.update_epoch(moved, around);
    }
}

fn check_regex(expression: &str) -> Result<(), Refused> {
    regex::compile(expression).map(|_| ()).map_err(|reason| {
        let message = format!("SubscribedTopicRegex `{expression}` is not a valid regular expression: {reason}.");
        Refused::new(ErrorCode::InvalidRegularExpression, message)
    })
}
