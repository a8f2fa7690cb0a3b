//! How one [`Change`] turns an image into the next. Pure, so that every store makes the same image of the same changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::image::{Change, ConfigOverrides, Image, Topic};
use super::store::CommitError;

impl Image {
    /// Applies one change. After an error the image is as it was.
    pub fn apply(&mut self, change: &Change) -> Result<(), CommitError> {
        match change {
            Change::CreateTopic(topic) => {
                if self.topics.contains_key(&topic.name) || self.topics_by_id.contains_key(&topic.id) {
                    return Err(CommitError::TopicExists(topic.name.to_string()));
                }
                self.put_topic(topic.clone());
            }
            Change::DeleteTopic(id) => {
                let topic = self.topics_by_id.remove(id).ok_or(CommitError::NoSuchTopic(*id))?;
                self.topics.remove(&topic.name);
            }
            Change::SetPartitionCount { topic: id, count } => {
                let topic = self.topics_by_id.get(id).ok_or(CommitError::NoSuchTopic(*id))?;
                // Somebody else raised it further meanwhile: partitions never become fewer.
                if *count < topic.partition_count {
                    return Err(CommitError::Conflict);
                }
                self.put_topic(Topic { partition_count: *count, ..Topic::clone(topic) });
            }
            Change::SetTopicConfig { topic: id, config } => {
                let topic = self.topics_by_id.get(id).ok_or(CommitError::NoSuchTopic(*id))?;
                self.put_topic(Topic { config: config.clone(), ..Topic::clone(topic) });
            }
            Change::SetBrokerConfig { broker, config } => set_config(&mut self.broker_configs, broker, config),
            Change::SetGroupConfig { group, config } => set_config(&mut self.group_configs, group, config),
            Change::SetClientMetrics { subscription, config } => {
                set_config(&mut self.client_metrics, subscription, config);
            }
            Change::SetClientQuotas { entity, quotas } if quotas.is_empty() => drop(self.client_quotas.remove(entity)),
            Change::SetClientQuotas { entity, quotas } => {
                self.client_quotas.insert(entity.clone(), quotas.clone());
            }
            Change::SetFeature { feature, level } => self.features.set(*feature, *level),
        }
        Ok(())
    }

    /// Puts a topic into both maps, over an older state of itself.
    pub(super) fn put_topic(&mut self, topic: Topic) {
        let topic = Arc::new(topic);
        self.topics.insert(Arc::clone(&topic.name), Arc::clone(&topic));
        self.topics_by_id.insert(topic.id, topic);
    }
}

/// A resource without overrides has no entry.
fn set_config(configs: &mut BTreeMap<String, ConfigOverrides>, resource: &str, config: &ConfigOverrides) {
    if config.is_empty() {
        configs.remove(resource);
    } else {
        configs.insert(resource.to_owned(), config.clone());
    }
}
