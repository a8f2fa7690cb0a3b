//! The local log: files, segments, retention, cleaning.

use crate::config::key::{Check, Key, boolean, double, int, list, long, string};

/// The entries.
pub(super) const KEYS: &[Key] = &[
    int("background.threads").default("10").at_least(1).cluster_wide().high().accepted(),
    int("compression.gzip.level").default("-1").check(Check::BetweenOr(1.0, 9.0, -1.0)).cluster_wide().says("The level of batches that are compressed anew with gzip; -1 is the codec's own."),
    int("compression.lz4.level").default("9").between(1.0, 17.0).cluster_wide().accepted(),
    string("compression.type")
        .default("producer")
        .check(Check::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]))
        .cluster_wide()
        .high()
        .says("The codec batches are stored with: those that come in another are compressed anew; with producer all stay as they came."),
    int("compression.zstd.level").default("3").between(-131072.0, 22.0).cluster_wide().says("The level of batches that are compressed anew with zstd."),
    list("cordoned.log.dirs").default("").per_broker().accepted(),
    long("log.cleaner.backoff.ms")
        .default("15000")
        .at_least(0)
        .cluster_wide()
        .says("How often the cleaner looks for work."),
    long("log.cleaner.dedupe.buffer.size")
        .default("134217728")
        .cluster_wide()
        .says("Memory for the keys of one cleaning."),
    long("log.cleaner.delete.retention.ms")
        .default("86400000")
        .at_least(0)
        .cluster_wide()
        .says("How long tombstones of a compacted topic are kept."),
    boolean("log.cleaner.enable").default("true").says("Compacted topics are cleaned."),
    double("log.cleaner.io.buffer.load.factor").default("0.9").cluster_wide().accepted(),
    int("log.cleaner.io.buffer.size").default("524288").at_least(0).cluster_wide().accepted(),
    double("log.cleaner.io.max.bytes.per.second").default("1.7976931348623157E308").cluster_wide().accepted(),
    long("log.cleaner.max.compaction.lag.ms")
        .default("9223372036854775807")
        .at_least(1)
        .cluster_wide()
        .says("A record becomes cleanable at the latest after this time."),
    double("log.cleaner.min.cleanable.ratio")
        .default("0.5")
        .between(0.0, 1.0)
        .cluster_wide()
        .says("The share of uncleaned log from which a partition is cleaned."),
    long("log.cleaner.min.compaction.lag.ms")
        .default("0")
        .at_least(0)
        .cluster_wide()
        .says("A record stays uncleaned at least this long."),
    int("log.cleaner.threads").default("1").at_least(0).cluster_wide().accepted(),
    list("log.cleanup.policy")
        .default("delete")
        .check(Check::EachOf(&["compact", "delete"]))
        .cluster_wide()
        .says("Old segments are deleted (delete), or only the last value of each key is kept (compact), or both."),
    list("log.dir")
        .differs(Some("/tmp/kafka-logs"), "data goes to terrace.data.dir")
        .high()
        .says("Where the log is, if log.dirs is not set."),
    long("log.dir.failure.timeout.ms").default("30000").at_least(1).low().accepted(),
    long("log.dir.min.free.bytes")
        .default("-1")
        .at_least(-1)
        .ours()
        .says("Free space below which produce is refused; -1 is 1 GiB or 5 % of the volume, the smaller."),
    list("log.dirs")
        .high()
        .says("Where the log is. With this set and terrace.data.dir not, all else goes to .terrace below the first."),
    long("log.flush.interval.messages")
        .default("9223372036854775807")
        .at_least(1)
        .cluster_wide()
        .high()
        .says("Records after which a partition is synced. 1 answers acks only when the batch is on disk."),
    long("log.flush.interval.ms")
        .cluster_wide()
        .high()
        .says("The time after which appended records are synced. No answer waits for it."),
    int("log.flush.offset.checkpoint.interval.ms").default("60000").at_least(0).high().accepted(),
    long("log.flush.scheduler.interval.ms")
        .default("9223372036854775807")
        .high()
        .says("Default of log.flush.interval.ms. Syncs are due by partition, whatever this interval says."),
    int("log.flush.start.offset.checkpoint.interval.ms").default("60000").at_least(0).high().accepted(),
    int("log.index.interval.bytes")
        .default("4096")
        .at_least(0)
        .cluster_wide()
        .says("Log bytes between two index entries."),
    int("log.index.size.max.bytes")
        .default("10485760")
        .at_least(4)
        .cluster_wide()
        .says("The largest index file. Nothing is preallocated."),
    long("log.initial.task.delay.ms")
        .default("30000")
        .at_least(0)
        .low()
        .internal()
        .says("The first pass of retention and of the cleaner comes this long after the start."),
    long("log.message.timestamp.after.max.ms")
        .default("3600000")
        .at_least(0)
        .cluster_wide()
        .says("How far a record's time may lie ahead of the broker's."),
    long("log.message.timestamp.before.max.ms")
        .default("9223372036854775807")
        .at_least(0)
        .cluster_wide()
        .says("How far a record's time may lie behind the broker's."),
    string("log.message.timestamp.type")
        .default("CreateTime")
        .check(Check::OneOf(&["CreateTime", "LogAppendTime"]))
        .cluster_wide()
        .says("The producer's time (CreateTime) or the broker's at the append (LogAppendTime)."),
    long("log.open.files")
        .default("-1")
        .at_least(-1)
        .ours()
        .low()
        .says("Log files that are held open; -1 is half of what the process may open."),
    boolean("log.preallocate").default("false").cluster_wide().accepted(),
    long("log.retention.bytes")
        .default("-1")
        .cluster_wide()
        .high()
        .says("Bytes of a partition over both tiers; -1 is no limit."),
    long("log.retention.check.interval.ms").default("300000").at_least(1).says("How often retention is looked at."),
    int("log.retention.hours")
        .default("168")
        .high()
        .says("log.retention.ms in hours, if neither that nor the minutes are set."),
    int("log.retention.minutes").high().says("log.retention.ms in minutes, if that is not set."),
    long("log.retention.ms").cluster_wide().high().says("How long records are kept over both tiers; -1 is for ever."),
    int("log.roll.hours").default("168").at_least(1).high().says("log.roll.ms in hours, if that is not set."),
    int("log.roll.jitter.hours")
        .default("0")
        .at_least(0)
        .high()
        .says("log.roll.jitter.ms in hours, if that is not set."),
    long("log.roll.jitter.ms").cluster_wide().high().says("A random part of this is taken off log.roll.ms."),
    long("log.roll.ms").cluster_wide().high().says("The age at which a segment is sealed."),
    int("log.segment.bytes")
        .default("1073741824")
        .at_least(1048576)
        .cluster_wide()
        .high()
        .says("The size at which a segment is sealed."),
    long("log.segment.delete.delay.ms")
        .default("60000")
        .at_least(0)
        .cluster_wide()
        .high()
        .says("How long the files of a deleted segment stay."),
    long("log.wal.file.bytes").default("67108864").between(1048576.0, 4294967296.0).ours().says(
        "The size of a file of the write-ahead log, of which a log directory with synced topics has four or more.",
    ),
    int("message.max.bytes")
        .default("1048588")
        .at_least(0)
        .cluster_wide()
        .high()
        .says("The largest batch, as it is sent."),
    int("min.insync.replicas")
        .default("1")
        .at_least(1)
        .cluster_wide()
        .high()
        .says("Replicas that must have a batch before acks=all answers. One broker has one replica."),
    int("num.recovery.threads.per.data.dir")
        .default("2")
        .at_least(1)
        .cluster_wide()
        .high()
        .says("Partitions of one log directory that are recovered side by side."),
    int("producer.id.expiration.check.interval.ms")
        .default("600000")
        .at_least(1)
        .low()
        .internal()
        .says("How often forgotten producers are looked for."),
    int("producer.id.expiration.ms")
        .default("86400000")
        .at_least(1)
        .cluster_wide()
        .low()
        .says("An idempotent producer that appends nothing for this long is forgotten."),
    long("record.decompressed.max.bytes")
        .default("67108864")
        .at_least(1024)
        .ours()
        .cluster_wide()
        .says("The most that is decompressed of one batch, wherever one must be opened."),
    string("record.validation")
        .default("header")
        .check(Check::OneOf(&["header", "full"]))
        .ours()
        .cluster_wide()
        .says("Checks the batch's header (header) or walks every record (full)."),
];
