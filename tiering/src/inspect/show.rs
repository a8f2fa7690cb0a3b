//! Objects as text. Writing to a `String` cannot fail, so its results are dropped here.

use std::fmt::Write as _;

use crate::cluster::snapshot::Snapshot;
use crate::manifest::{ManifestEntry, Root};
use crate::object::footer::Footer;

pub(super) fn footer(footer: &Footer) -> String {
    let identity = &footer.identity;
    let mut out = String::new();
    let _ = writeln!(out, "cluster           {}", identity.cluster_id);
    let _ = writeln!(out, "topic             {} ({})", identity.topic_name, identity.topic);
    let _ = writeln!(out, "partition         {}", identity.partition);
    let _ = writeln!(out, "offsets           {}..={}", identity.base_offset, identity.last_offset);
    let _ = writeln!(out, "copy              {} by leader epoch {}", identity.uuid, identity.leader_epoch);
    let _ = writeln!(out, "records           {} in {} batches", identity.record_count, identity.batch_count);
    let _ = writeln!(
        out,
        "timestamps        first {}, largest {} at offset {}",
        identity.first_timestamp, identity.max_timestamp, identity.max_timestamp_offset
    );
    let _ = writeln!(out, "log bytes         {}", footer.log_bytes);
    let _ = writeln!(out, "producer snapshot {} bytes", footer.producer_snapshot.len());
    let _ = writeln!(out, "aborted           {}", footer.aborted.len());
    for (epoch, offset) in &footer.epochs {
        let _ = writeln!(out, "epoch {epoch} from offset {offset}");
    }
    for (number, chunk) in footer.chunks.iter().enumerate() {
        let _ = writeln!(
            out,
            "chunk {number}: position {} length {} first offset {} largest timestamp {} crc {:08x}",
            chunk.position, chunk.length, chunk.first_offset, chunk.max_timestamp, chunk.crc
        );
    }
    out
}

pub(super) fn root(root: &Root) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "topic id    {}", root.topic);
    let _ = writeln!(out, "partition   {}", root.partition);
    let _ = writeln!(out, "generation  {} in leader epoch {}", root.generation, root.leader_epoch);
    let _ = writeln!(out, "writer      {} at {} ms", root.writer, root.written_at_ms);
    let _ = writeln!(out, "log start   {}", root.log_start);
    let _ = writeln!(out, "tier end    {}", root.tier_end);
    if root.cleaned_end > 0 {
        let _ = writeln!(out, "cleaned to  {}", root.cleaned_end);
    }
    for leaf in &root.leaves {
        let _ = writeln!(
            out,
            "leaf {}: offsets {}..={} in {} segments",
            leaf.uuid, leaf.first_offset, leaf.last_offset, leaf.entry_count
        );
    }
    out + &entries(&root.entries)
}

pub(super) fn entries(entries: &[ManifestEntry]) -> String {
    let mut out = String::new();
    for entry in entries {
        let _ = writeln!(
            out,
            "segment {}: offsets {}..={} epoch {} log bytes {} largest timestamp {}",
            entry.uuid, entry.base_offset, entry.last_offset, entry.leader_epoch, entry.log_bytes, entry.max_timestamp
        );
    }
    out
}

pub(super) fn snapshot(snapshot: &Snapshot) -> String {
    let mut out = format!("snapshot {}\n", snapshot.number);
    for section in &snapshot.sections {
        let _ = writeln!(out, "section {}: {} bytes", section.kind, section.bytes.len());
    }
    out
}
