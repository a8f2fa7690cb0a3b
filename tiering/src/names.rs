//! Every object key is built and parsed here.
//!
//! ```text
//! <root>/<cluster id>/cluster.json
//!                     owner/<node epoch>
//!                     meta/snap-<number>
//!                     tomb/<topic id>
//!                     probe/<uuid>
//!                     seg/<2 hex>/<topic id>/<partition>/<base>-<last>-<leader epoch>-<uuid>
//!                     mf/<2 hex>/<topic id>/<partition>/root-<leader epoch>-<generation>
//!                     mf/<2 hex>/<topic id>/<partition>/leaf-<first>-<uuid>
//! ```
//!
//! Numbers are zero-padded so that listing sorts (offsets, generations and snapshot numbers to 20 digits, partitions and
//! epochs to 10); ids are 32 hex digits. The two hex digits are the first byte of the CRC-32C over topic id and partition
//! (big-endian): they spread partitions over a store's key ranges.

use object_store::path::Path;
use uuid::Uuid;

/// One segment object: all that its key says, and its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// The topic's id.
    pub topic: Uuid,
    /// The partition's number.
    pub partition: i32,
    /// First offset it covers.
    pub base_offset: i64,
    /// Last offset it covers.
    pub last_offset: i64,
    /// Leader epoch of the broker that copied it.
    pub leader_epoch: i32,
    /// Of this copy; every retry has another.
    pub uuid: Uuid,
    /// Bytes of the whole object.
    pub object_bytes: u64,
}

/// One object below `mf/`. Leaves sort before roots, roots by leader epoch and generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ManifestName {
    /// A leaf.
    Leaf {
        /// First offset of its first entry.
        first_offset: i64,
        /// Of this leaf.
        uuid: Uuid,
    },
    /// A root.
    Root {
        /// Leader epoch of its writer.
        leader_epoch: i32,
        /// One higher with each root of the partition.
        generation: u64,
    },
}

/// Builds the keys of one cluster in one bucket.
#[derive(Debug, Clone)]
pub struct Names {
    prefix: Path,
}

impl Names {
    /// Keys below `<root>/<cluster id>`.
    pub fn new(root: &Path, cluster_id: &str) -> Self {
        Self { prefix: root.clone().join(cluster_id) }
    }

    /// What all keys of the cluster begin with.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// `cluster.json`.
    pub fn cluster_file(&self) -> Path {
        self.prefix.clone().join("cluster.json")
    }

    /// Where [`Names::owner`] keys are listed.
    pub fn owners(&self) -> Path {
        self.prefix.clone().join("owner")
    }

    /// `owner/<node epoch>`.
    pub fn owner(&self, node_epoch: i32) -> Path {
        self.owners().join(format!("{node_epoch:010}"))
    }

    /// Where [`Names::snapshot`] keys are listed.
    pub fn snapshots(&self) -> Path {
        self.prefix.clone().join("meta")
    }

    /// `meta/snap-<number>`.
    pub fn snapshot(&self, number: u64) -> Path {
        self.snapshots().join(format!("snap-{number:020}"))
    }

    /// Where [`Names::tombstone`] keys are listed.
    pub fn tombstones(&self) -> Path {
        self.prefix.clone().join("tomb")
    }

    /// `tomb/<topic id>`.
    pub fn tombstone(&self, topic: Uuid) -> Path {
        self.tombstones().join(topic.simple().to_string())
    }

    /// `probe/<uuid>`: made and removed when a store is opened.
    pub fn probe(&self, uuid: Uuid) -> Path {
        self.prefix.clone().join("probe").join(uuid.simple().to_string())
    }

    /// Where all segments are listed.
    pub fn all_segments(&self) -> Path {
        self.prefix.clone().join("seg")
    }

    /// Where the segments of one partition are listed.
    pub fn segments(&self, topic: Uuid, partition: i32) -> Path {
        partition_below(self.all_segments(), topic, partition)
    }

    /// The key of one segment.
    pub fn segment(&self, object: &ObjectRef) -> Path {
        let ObjectRef { topic, partition, base_offset, last_offset, leader_epoch, uuid, .. } = object;
        self.segments(*topic, *partition)
            .join(format!("{base_offset:020}-{last_offset:020}-{leader_epoch:010}-{}", uuid.simple()))
    }

    /// Where all manifests are listed.
    pub fn all_manifests(&self) -> Path {
        self.prefix.clone().join("mf")
    }

    /// Where the roots and leaves of one partition are listed.
    pub fn manifests(&self, topic: Uuid, partition: i32) -> Path {
        partition_below(self.all_manifests(), topic, partition)
    }

    /// The key of one root or leaf.
    pub fn manifest(&self, topic: Uuid, partition: i32, name: ManifestName) -> Path {
        self.manifests(topic, partition).join(match name {
            ManifestName::Root { leader_epoch, generation } => format!("root-{leader_epoch:010}-{generation:020}"),
            ManifestName::Leaf { first_offset, uuid } => format!("leaf-{first_offset:020}-{}", uuid.simple()),
        })
    }

    /// The segment that a key names; `None` if it names something else.
    pub fn parse_segment(&self, key: &Path, object_bytes: u64) -> Option<ObjectRef> {
        let (topic, partition, name) = self.parse_partition(key, "seg")?;
        let mut parts = name.split('-');
        let object = ObjectRef {
            topic,
            partition,
            base_offset: number(parts.next()?, 20)?,
            last_offset: number(parts.next()?, 20)?,
            leader_epoch: number(parts.next()?, 10)?,
            uuid: id(parts.next()?)?,
            object_bytes,
        };
        parts.next().is_none().then_some(object)
    }

    /// The topic, partition and root or leaf that a key names; `None` if it names something else.
    pub fn parse_manifest(&self, key: &Path) -> Option<(Uuid, i32, ManifestName)> {
        let (topic, partition, name) = self.parse_partition(key, "mf")?;
        let (kind, rest) = name.split_once('-')?;
        let (left, right) = rest.split_once('-')?;
        let name = match kind {
            "root" => ManifestName::Root { leader_epoch: number(left, 10)?, generation: number(right, 20)? },
            "leaf" => ManifestName::Leaf { first_offset: number(left, 20)?, uuid: id(right)? },
            _ => return None,
        };
        Some((topic, partition, name))
    }

    /// The node epoch of an `owner/` key.
    pub fn parse_owner(&self, key: &Path) -> Option<i32> {
        number(last_below(&self.owners(), key)?, 10)
    }

    /// The number of a `meta/` key.
    pub fn parse_snapshot(&self, key: &Path) -> Option<u64> {
        number(last_below(&self.snapshots(), key)?.strip_prefix("snap-")?, 20)
    }

    /// The topic of a `tomb/` key.
    pub fn parse_tombstone(&self, key: &Path) -> Option<Uuid> {
        id(last_below(&self.tombstones(), key)?)
    }

    fn parse_partition<'a>(&self, key: &'a Path, kind: &str) -> Option<(Uuid, i32, &'a str)> {
        let below = below(&self.prefix, key)?;
        let mut parts = below.split('/');
        let (got_kind, got_spread) = (parts.next()?, parts.next()?);
        let (topic, partition, name) = (id(parts.next()?)?, number(parts.next()?, 10)?, parts.next()?);
        let right = got_kind == kind && got_spread == spread(topic, partition) && parts.next().is_none();
        right.then_some((topic, partition, name))
    }
}

fn partition_below(prefix: Path, topic: Uuid, partition: i32) -> Path {
    prefix.join(spread(topic, partition)).join(topic.simple().to_string()).join(format!("{partition:010}"))
}

fn spread(topic: Uuid, partition: i32) -> String {
    let crc = crc32c::crc32c_append(crc32c::crc32c(topic.as_bytes()), &partition.to_be_bytes());
    format!("{:02x}", crc >> 24)
}

fn below<'a>(prefix: &Path, key: &'a Path) -> Option<&'a str> {
    key.as_ref().strip_prefix(prefix.as_ref())?.strip_prefix('/')
}

fn last_below<'a>(prefix: &Path, key: &'a Path) -> Option<&'a str> {
    below(prefix, key).filter(|name| !name.contains('/'))
}

/// A number as it is written here: exactly `digits` decimal digits.
fn number<T: std::str::FromStr>(text: &str, digits: usize) -> Option<T> {
    (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// An id as it is written here: 32 lower-case hex digits.
fn id(text: &str) -> Option<Uuid> {
    let canonical = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    canonical.then(|| Uuid::try_parse(text).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names() -> Names {
        Names::new(&Path::from("some/root"), "MkU3OEVBNTcwNTJENDM2Qk")
    }

    fn object() -> impl Strategy<Value = ObjectRef> {
        (any::<u128>(), 0..i32::MAX, 0..i64::MAX, 0..i64::MAX, 0..i32::MAX, any::<u128>()).prop_map(
            |(topic, partition, base_offset, last_offset, leader_epoch, uuid)| ObjectRef {
                topic: Uuid::from_u128(topic),
                partition,
                base_offset,
                last_offset,
                leader_epoch,
                uuid: Uuid::from_u128(uuid),
                object_bytes: 9,
            },
        )
    }

    proptest! {
        #[test]
        fn a_segment_key_says_all_again(object in object()) {
            let key = names().segment(&object);
            prop_assert_eq!(names().parse_segment(&key, 9), Some(object));
            prop_assert_eq!(names().parse_manifest(&key), None);
        }

        #[test]
        fn a_manifest_key_says_all_again(object in object(), generation: u64) {
            for name in [
                ManifestName::Root { leader_epoch: object.leader_epoch, generation },
                ManifestName::Leaf { first_offset: object.base_offset, uuid: object.uuid },
            ] {
                let key = names().manifest(object.topic, object.partition, name);
                prop_assert_eq!(names().parse_manifest(&key), Some((object.topic, object.partition, name)));
                prop_assert_eq!(names().parse_segment(&key, 9), None);
            }
        }

        #[test]
        fn any_key_is_parsed_without_a_panic(text in "[a-f0-9/-]{0,160}") {
            let key = Path::from(format!("some/root/MkU3OEVBNTcwNTJENDM2Qk/{text}"));
            let _ = (names().parse_segment(&key, 0), names().parse_manifest(&key), names().parse_owner(&key));
        }

        #[test]
        fn listing_sorts_by_offset(a in object(), base_offset in 0..i64::MAX) {
            let b = ObjectRef { base_offset, ..a };
            prop_assert_eq!(names().segment(&a).cmp(&names().segment(&b)), a.base_offset.cmp(&b.base_offset));
        }
    }

    #[test]
    fn keys_look_as_documented() {
        let topic = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        let object = ObjectRef {
            topic,
            partition: 3,
            base_offset: 100,
            last_offset: 199,
            leader_epoch: 4,
            uuid: Uuid::from_u128(0xff),
            object_bytes: 0,
        };
        let spread = spread(topic, 3);
        assert_eq!(
            names().segment(&object).as_ref(),
            format!(
                "some/root/MkU3OEVBNTcwNTJENDM2Qk/seg/{spread}/0123456789abcdef0123456789abcdef/0000000003/\
                 00000000000000000100-00000000000000000199-0000000004-000000000000000000000000000000ff"
            )
        );
        assert_eq!(names().parse_owner(&names().owner(7)), Some(7));
        assert_eq!(names().parse_snapshot(&names().snapshot(7)), Some(7));
        assert_eq!(names().parse_tombstone(&names().tombstone(topic)), Some(topic));
        assert_eq!(names().parse_snapshot(&names().owner(7)), None);
    }
}
