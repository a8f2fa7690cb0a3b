//! What is true of every manifest. Checked before a root is written and after one is read.

use super::ManifestEntry;

/// The first invariant that `entries` break: sorted by offset, disjoint, every range sane, nothing twice.
pub fn check(entries: &[ManifestEntry]) -> Result<(), String> {
    for entry in entries {
        if entry.base_offset < 0 || entry.last_offset < entry.base_offset || entry.leader_epoch < 0 {
            return Err(format!("segment {} covers {}..={}", entry.uuid, entry.base_offset, entry.last_offset));
        }
        if entry.log_bytes >= entry.object_bytes {
            return Err(format!("segment {} has {} bytes of {}", entry.uuid, entry.log_bytes, entry.object_bytes));
        }
    }
    for (before, after) in entries.iter().zip(entries.iter().skip(1)) {
        if after.base_offset <= before.last_offset {
            return Err(format!("segment {} overlaps {}", after.uuid, before.uuid));
        }
    }
    let mut uuids: Vec<_> = entries.iter().map(|entry| entry.uuid).collect();
    uuids.sort_unstable();
    uuids.dedup();
    if uuids.len() != entries.len() {
        return Err("one uuid names two segments".to_owned());
    }
    Ok(())
}
