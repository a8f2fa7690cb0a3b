//! Kafka's metadata and its files side by side: what will be ours, and what is not understood.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use super::AdoptError;
use super::cluster::{BROKER, CLIENT_METRICS, Cluster, GROUP, KafkaTopic, TOPIC};
use super::directory::{KafkaDirectory, KafkaLog};
use crate::config::keys;
use crate::metadata::adopted::Adopted;
use crate::metadata::features::Feature;
use crate::metadata::image::{Change, ConfigOverrides, Topic};

/// Where Kafka keeps what its own tiered storage holds.
const REMOTE_LOG_METADATA: &str = "__remote_log_metadata";
/// Names shown of each kind of thing that is not understood.
const SHOWN: usize = 5;

/// All that `terrace adopt` will do.
#[derive(Debug)]
pub struct Plan {
    /// Its own number in the cluster; ours has to be the same.
    pub node_id: i32,
    /// The log directories.
    pub directories: Vec<KafkaDirectory>,
    /// The directory of Kafka's metadata log.
    pub metadata_log: PathBuf,
    /// What our metadata begins with.
    pub adopted: Adopted,
    /// What is committed to it.
    pub changes: Vec<Change>,
    /// What is not taken over: kind to names.
    pub left: BTreeMap<String, Vec<String>>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    topics: usize,
    partitions: usize,
    bytes: u64,
    settings: usize,
    quotas: usize,
    security: usize,
}

impl Plan {
    /// Compares; refuses when the directories are not all of one broker, or partitions are missing.
    pub fn make(cluster: Cluster, directories: Vec<KafkaDirectory>, metadata_log: PathBuf) -> Result<Self, AdoptError> {
        let identity = one_broker(&directories)?;
        let mut left: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let logs = logs_by_id(&directories)?;
        let missing = missing_partitions(&cluster, identity.1, &logs);
        if !missing.is_empty() {
            return Err(AdoptError::Refused(format!(
                "{} partitions have no files here ({}): name all log.dirs; a broker of several cannot be adopted alone unless it holds a replica of everything",
                missing.len(),
                shown(&missing)
            )));
        }
        for (name, directory) in directories.iter().flat_map(|d| d.others.iter().map(move |name| (name, &d.path))) {
            left.entry("directories set aside at the first start".to_owned())
                .or_default()
                .push(directory.join(name).display().to_string());
        }
        for kind in &cluster.unknown {
            left.entry("records of unknown types".to_owned())
                .or_default()
                .push(format!("type {} ({})", kind.0, kind.1));
        }
        let epoch_of_topics = cluster.topics.values().flat_map(|t| t.partitions.values()).map(|p| p.leader_epoch);
        let node_epoch = epoch_of_topics.chain(logs.values().map(|log| log.last_epoch)).max().unwrap_or(0);
        let counts = Counts {
            topics: cluster.topics.len(),
            partitions: cluster.topics.values().map(|topic| topic.partitions.len()).sum(),
            bytes: logs.values().map(|log| log.marks.size_bytes).sum(),
            settings: 0,
            quotas: cluster.quotas.values().filter(|quotas| !quotas.is_empty()).count(),
            security: cluster.security.len(),
        };
        let mut plan = Self {
            node_id: identity.1,
            metadata_log,
            adopted: Adopted {
                cluster_id: identity.0,
                node_epoch,
                next_producer_id: cluster.next_producer_id,
                security: cluster.security.clone(),
                remote: Vec::new(),
            },
            changes: Vec::new(),
            left,
            counts,
            directories,
        };
        plan.take_topics(&cluster);
        plan.take_settings(&cluster);
        plan.take_features(&cluster);
        Ok(plan)
    }

    fn leave(&mut self, kind: &str, what: String) {
        self.left.entry(kind.to_owned()).or_default().push(what);
    }

    fn take_topics(&mut self, cluster: &Cluster) {
        for (id, KafkaTopic { name, partitions }) in &cluster.topics {
            let given = cluster.configs.get(&(TOPIC, name.clone())).cloned().unwrap_or_default();
            if name == REMOTE_LOG_METADATA || given.get("remote.storage.enable").is_some_and(|value| value == "true") {
                self.leave("topics whose part in Kafka's own tiered storage stays there", name.clone());
            }
            let config = self.known(given, &format!("topic {name}"), |key, value| {
                keys::TOPIC.get(key).is_some_and(|key| key.validate(value).is_ok())
            });
            let replicas = partitions.values().map(|partition| partition.replicas.len()).max().unwrap_or(1);
            self.changes.push(Change::CreateTopic(Topic {
                id: *id,
                name: Arc::from(name.as_str()),
                partition_count: partitions.len() as i32,
                replication_factor: i16::try_from(replicas).unwrap_or(1),
                config,
            }));
        }
    }

    fn take_settings(&mut self, cluster: &Cluster) {
        for ((kind, resource), given) in &cluster.configs {
            let given = given.clone();
            let change = match *kind {
                TOPIC => continue,
                BROKER => {
                    let config = self.known(given, &format!("broker {resource}"), |key, value| {
                        keys::broker(key).is_some_and(|key| key.validate(value).is_ok())
                    });
                    Change::SetBrokerConfig { broker: resource.clone(), config }
                }
                GROUP => {
                    let config = self.known(given, &format!("group {resource}"), |key, value| {
                        keys::GROUP.get(key).is_some_and(|key| key.validate(value).is_ok())
                    });
                    Change::SetGroupConfig { group: resource.clone(), config }
                }
                CLIENT_METRICS => Change::SetClientMetrics { subscription: resource.clone(), config: given },
                other => {
                    self.leave("settings", format!("resource type {other}, {resource}"));
                    continue;
                }
            };
            self.changes.push(change);
        }
        for (entity, quotas) in cluster.quotas.iter().filter(|(_, quotas)| !quotas.is_empty()) {
            self.changes.push(Change::SetClientQuotas { entity: entity.clone(), quotas: quotas.clone() });
        }
    }

    fn take_features(&mut self, cluster: &Cluster) {
        for (name, &level) in &cluster.features {
            match Feature::named(name) {
                Some(feature) if (feature.supported().0..=feature.supported().1).contains(&level) => {
                    self.changes.push(Change::SetFeature { feature, level });
                }
                _ => self.leave("feature levels", format!("{name}={level}")),
            }
        }
        for feature in Feature::ALL.into_iter().filter(|feature| !cluster.features.contains_key(feature.name())) {
            if feature.supported().0 == 0 {
                self.changes.push(Change::SetFeature { feature, level: 0 });
            }
        }
    }

    /// The settings that we know and accept; the others are named.
    fn known(&mut self, given: ConfigOverrides, whose: &str, accepts: impl Fn(&str, &str) -> bool) -> ConfigOverrides {
        let (known, unknown): (ConfigOverrides, ConfigOverrides) =
            given.into_iter().partition(|(key, value)| accepts(key, value));
        for key in unknown.keys() {
            self.leave("settings", format!("{whose}: {key}"));
        }
        self.counts.settings += known.len();
        known
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { topics, partitions, bytes, settings, quotas, security } = self.counts;
        writeln!(f, "cluster {}, node {}", self.adopted.cluster_id, self.node_id)?;
        writeln!(f, "  {topics} topics, {partitions} partitions, {bytes} bytes")?;
        writeln!(
            f,
            "  {settings} settings, {quotas} client quotas, next producer id {}",
            self.adopted.next_producer_id
        )?;
        writeln!(f, "  {security} ACLs, SCRAM credentials and tokens, kept for a release that has security")?;
        for (kind, names) in &self.left {
            writeln!(f, "  not taken over: {} {kind} ({})", names.len(), shown(names))?;
        }
        Ok(())
    }
}

fn shown(names: &[String]) -> String {
    let more = if names.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", "))
}

/// Cluster id and node id, on which all directories must agree.
fn one_broker(directories: &[KafkaDirectory]) -> Result<(String, i32), AdoptError> {
    let mut identities = directories.iter().map(|d| (d.identity.cluster_id.clone(), d.identity.node_id));
    let first = identities.next().ok_or_else(|| AdoptError::Refused("no directory is named".to_owned()))?;
    match identities.find(|identity| *identity != first) {
        None => Ok(first),
        Some(other) => Err(AdoptError::Refused(format!(
            "the directories belong to different brokers: node {} of cluster {} and node {} of cluster {}",
            first.1, first.0, other.1, other.0
        ))),
    }
}

fn logs_by_id(directories: &[KafkaDirectory]) -> Result<HashMap<(Uuid, i32), &KafkaLog>, AdoptError> {
    let mut logs = HashMap::new();
    for log in directories.iter().flat_map(|directory| &directory.partitions) {
        if logs.insert((log.marks.topic_id, log.marks.partition), log).is_some() {
            return Err(AdoptError::Refused(format!(
                "{}-{} lies in two directories: Kafka was moving it; let it finish",
                log.marks.topic, log.marks.partition
            )));
        }
    }
    Ok(logs)
}

/// Partitions of the cluster that this broker should hold or nobody else can give.
fn missing_partitions(cluster: &Cluster, node_id: i32, logs: &HashMap<(Uuid, i32), &KafkaLog>) -> Vec<String> {
    let all = cluster.topics.iter().flat_map(|(id, topic)| topic.partitions.iter().map(move |p| (id, topic, p)));
    all.filter(|(id, _, (partition, known))| {
        !known.replicas.contains(&node_id) || !logs.contains_key(&(**id, **partition))
    })
    .map(|(_, topic, (partition, _))| format!("{}-{partition}", topic.name))
    .collect()
}
