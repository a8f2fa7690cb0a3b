//! Which partitions an operator means. The bucket goes by topic ids; names come from the newest metadata snapshot, and
//! where that lacks a topic from a footer.

use std::collections::HashMap;

use terrace_tiering::Tier;
use terrace_tiering::cluster::snapshot::SnapshotError;
use terrace_tiering::manifest::load::NewestRoot;
use uuid::Uuid;

use super::{Failure, not_asked};
use crate::remote_log::snapshots::{IMAGE, content};

/// `TOPIC` or `TOPIC/PARTITION`; a topic by name or id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selection {
    topic: String,
    partition: Option<i32>,
}

impl Selection {
    /// For clap.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (topic, partition) = match text.split_once('/') {
            None => (text, None),
            Some((topic, partition)) => match partition.parse() {
                Ok(number) => (topic, Some(number)),
                Err(_) => return Err("it is TOPIC or TOPIC/PARTITION".to_owned()),
            },
        };
        match topic {
            "" => Err("it is TOPIC or TOPIC/PARTITION".to_owned()),
            topic => Ok(Self { topic: topic.to_owned(), partition }),
        }
    }

    /// The one partition that it names.
    pub(super) fn one_partition(&self) -> Option<i32> {
        self.partition
    }

    fn wants(&self, id: Uuid, name: &str, partition: i32) -> bool {
        let topic = self.topic == name || Uuid::try_parse(&self.topic).is_ok_and(|wanted| wanted == id);
        topic && self.partition.is_none_or(|wanted| wanted == partition)
    }
}

/// The partitions that are stored and wanted.
#[derive(Debug)]
pub(super) struct Stored {
    /// Their newest roots.
    pub(super) roots: Vec<NewestRoot>,
    names: HashMap<Uuid, String>,
}

impl Stored {
    /// Looks which there are. It is an error if something is wanted that is not there.
    pub(super) async fn find(tier: &Tier, wanted: Option<&Selection>) -> Result<Self, Failure> {
        let mut roots = tier.newest_roots().await.map_err(not_asked)?;
        let names = names(tier, &roots).await?;
        if let Some(wanted) = wanted {
            let name = |id: &Uuid| names.get(id).map_or("", String::as_str);
            roots.retain(|root| wanted.wants(root.topic, name(&root.topic), root.partition));
            if roots.is_empty() {
                let partition = wanted.partition.map(|partition| format!("/{partition}")).unwrap_or_default();
                return Err(not_asked(format!("nothing of {}{partition} is stored", wanted.topic)));
            }
        }
        Ok(Self { roots, names })
    }

    /// A topic's name; its id where nobody knows it.
    pub(super) fn name(&self, topic: Uuid) -> String {
        self.names.get(&topic).cloned().unwrap_or_else(|| topic.simple().to_string())
    }

    /// Is this partition among them?
    pub(super) fn has(&self, topic: Uuid, partition: i32) -> bool {
        self.roots.iter().any(|root| (root.topic, root.partition) == (topic, partition))
    }
}

async fn names(tier: &Tier, roots: &[NewestRoot]) -> Result<HashMap<Uuid, String>, Failure> {
    let mut names = HashMap::new();
    let snapshot = match tier.newest_snapshot().await {
        Ok(snapshot) => snapshot,
        Err(SnapshotError::Store(error)) => return Err(not_asked(error)),
        // Names come from the footers then.
        Err(SnapshotError::Fenced(_) | SnapshotError::Corrupt { .. }) => None,
    };
    let image = snapshot.iter().flat_map(|snapshot| &snapshot.sections).find(|section| section.kind == IMAGE);
    if let Some(Ok(image)) = image.map(|section| content::decode_image(&section.bytes)) {
        names.extend(image.topics.iter().map(|topic| (topic.id, topic.name.to_string())));
    }
    for root in roots {
        // What cannot be read here is what verify is for; the id will do.
        if !names.contains_key(&root.topic)
            && let Ok(Some(manifest)) = tier.load_manifest(root.topic, root.partition).await
            && let Some(last) = manifest.entries.last()
            && let Ok(footer) = tier.footer(&last.object(root.topic, root.partition)).await
        {
            names.insert(root.topic, footer.identity.topic_name.clone());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("orders", "orders", 7, true)]
    #[case("orders/7", "orders", 7, true)]
    #[case("orders/7", "orders", 8, false)]
    #[case("orders", "order", 7, false)]
    #[case("00000000000000000000000000000abc/7", "orders", 7, true)]
    #[case("00000000000000000000000000000abd", "orders", 7, false)]
    fn a_topic_is_meant_by_name_or_id(
        #[case] text: &str,
        #[case] name: &str,
        #[case] partition: i32,
        #[case] wanted: bool,
    ) {
        let selection = Selection::parse(text).expect("understood");
        assert_eq!(selection.wants(Uuid::from_u128(0xabc), name, partition), wanted);
    }

    #[test]
    fn what_is_no_partition_is_refused() {
        for text in ["", "/1", "a/b", "a/1/2"] {
            assert!(Selection::parse(text).is_err(), "{text}");
        }
    }
}
