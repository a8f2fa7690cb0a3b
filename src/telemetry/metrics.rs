//! Every metric, one entry each: name, kind, what it says. Names that Kafka's dashboards query are spelled as the JMX
//! exporter with Strimzi's rules spells them; `terrace_*` are our own.
//!
//! Two ways lead here. Rare events use the macros of crate `metrics` with a name of this table. What is counted on the
//! hot path, or exists once per partition, is kept as plain numbers by its owner and told at the scrape
//! ([`Scrape`](super::scrape::Scrape)), so that nothing is looked up when a batch passes and a deleted topic leaves
//! nothing behind.

/// What kind of number it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Moves both ways.
    Gauge,
    /// Quantiles.
    Summary,
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// What it says.
    pub help: &'static str,
}

macro_rules! catalogue {
    ($($constant:ident = $kind:ident $name:literal, $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: Metric = Metric { name: $name, kind: Kind::$kind, help: $help };)*

        /// All of them.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

catalogue! {
    MESSAGES_IN = Counter "kafka_server_brokertopicmetrics_messagesin_total", "Records appended.";
    BYTES_IN = Counter "kafka_server_brokertopicmetrics_bytesin_total", "Bytes of batches appended.";
    BYTES_OUT = Counter "kafka_server_brokertopicmetrics_bytesout_total", "Bytes of batches sent to consumers.";
    BYTES_REJECTED = Counter "kafka_server_brokertopicmetrics_bytesrejected_total", "Bytes of batches refused.";
    PRODUCE_REQUESTS = Counter "kafka_server_brokertopicmetrics_totalproducerequests_total", "Partitions produced to.";
    FETCH_REQUESTS = Counter "kafka_server_brokertopicmetrics_totalfetchrequests_total", "Partitions fetched from.";
    PRODUCE_FAILED = Counter "kafka_server_brokertopicmetrics_failedproducerequests_total", "Produces refused, by partition.";
    FETCH_FAILED = Counter "kafka_server_brokertopicmetrics_failedfetchrequests_total", "Fetches refused, by partition.";

    REQUESTS = Counter "kafka_network_requestmetrics_requests_total", "Requests by API and version.";
    REQUEST_TIME = Summary "kafka_network_requestmetrics_totaltimems",
        "Milliseconds from the request's last byte to its answer, over the last one or two minutes.";
    REQUEST_ERRORS = Counter "kafka_network_requestmetrics_errors_total", "Requests that ended their connection.";
    CONNECTIONS = Gauge "kafka_server_socket_server_metrics_connection_count", "Open connections.";

    PARTITION_COUNT = Gauge "kafka_server_replicamanager_partitioncount", "Partitions on this broker.";
    LEADER_COUNT = Gauge "kafka_server_replicamanager_leadercount", "Partitions that this broker leads.";
    UNDER_REPLICATED = Gauge "kafka_server_replicamanager_underreplicatedpartitions", "Partitions short of replicas.";
    OFFLINE_PARTITIONS = Gauge "kafka_controller_kafkacontroller_offlinepartitionscount", "Partitions that are offline.";
    ACTIVE_CONTROLLERS = Gauge "kafka_controller_kafkacontroller_activecontrollercount", "1: this broker decides.";
    LOG_SIZE = Gauge "kafka_log_log_size", "Local bytes of a partition.";
    LOG_START_OFFSET = Gauge "kafka_log_log_logstartoffset", "First offset of a partition, over both tiers.";
    LOG_END_OFFSET = Gauge "kafka_log_log_logendoffset", "Next offset of a partition.";
    LOCAL_START_OFFSET = Gauge "terrace_log_local_start_offset", "First offset that is still local.";
    OFFSET_CURRENT = Gauge "kafka_topic_partition_current_offset", "High watermark of a partition.";
    OFFSET_OLDEST = Gauge "kafka_topic_partition_oldest_offset", "First offset of a partition, over both tiers.";
    LOG_DIRECTORIES_FAILED = Counter "terrace_log_directories_failed_total", "Log directories that went offline.";

    REMOTE_COPY_BYTES = Counter "kafka_server_brokertopicmetrics_remotecopybytes_total", "Bytes copied to the store.";
    REMOTE_COPY_REQUESTS = Counter "kafka_server_brokertopicmetrics_remotecopyrequests_total", "Segments copied.";
    REMOTE_COPY_ERRORS = Counter "kafka_server_brokertopicmetrics_remotecopyerrors_total", "Copies that failed.";
    REMOTE_DELETE_REQUESTS = Counter "kafka_server_brokertopicmetrics_remotedeleterequests_total", "Remote deletions.";
    REMOTE_DELETE_ERRORS = Counter "kafka_server_brokertopicmetrics_remotedeleteerrors_total",
        "Remote deletions that failed.";
    REMOTE_COPY_LAG_BYTES = Gauge "kafka_server_brokertopicmetrics_remotecopylagbytes", "Sealed bytes not yet copied.";
    REMOTE_COPY_LAG_SEGMENTS = Gauge "kafka_server_brokertopicmetrics_remotecopylagsegments",
        "Sealed segments not yet copied.";
    REMOTE_OLDEST_UNCOPIED = Gauge "terrace_remote_oldest_uncopied_age_seconds", "Age of the oldest record not copied.";
    REMOTE_ROOTS = Counter "terrace_remote_manifest_roots_total", "Manifests written.";
    REMOTE_SNAPSHOTS = Counter "terrace_remote_metadata_snapshots_total", "Metadata snapshots written.";
    REMOTE_STORE_UP = Gauge "terrace_remote_store_up", "1 if the store answers.";
    REMOTE_REQUESTS = Counter "terrace_remote_requests_total", "Requests to the store by purpose, operation and result.";
    REMOTE_REQUEST_TIME = Summary "terrace_remote_request_seconds", "Seconds of a request to the store.";
    REMOTE_SENT = Counter "terrace_remote_sent_bytes_total", "Bytes sent to the store, by purpose.";
    REMOTE_RECEIVED = Counter "terrace_remote_received_bytes_total", "Bytes received from the store, by purpose.";
    REMOTE_COST = Counter "terrace_remote_cost_total",
        "Price of requests and received bytes by remote.cost.*, by purpose.";
    REMOTE_STORED = Gauge "terrace_remote_stored_bytes", "Bytes of segments in the store, those to be deleted included.";
    REMOTE_STORAGE_COST = Gauge "terrace_remote_storage_cost_per_month", "Price of those bytes by remote.cost.*.";
    REMOTE_RETRIES = Counter "terrace_remote_retries_total", "Requests to the store that were tried again.";
    REMOTE_THROTTLED = Counter "terrace_remote_throttled_seconds_total", "Seconds that the byte limits held back.";

    REMOTE_COPIED_BYTES = Counter "terrace_remote_copied_bytes_total", "Bytes of verified copies.";
    REMOTE_COPIED_SEGMENTS = Counter "terrace_remote_copied_segments_total", "Verified copies.";
    REMOTE_CORRUPT_CHUNKS = Counter "terrace_remote_corrupt_chunks_total", "Chunks of the store that failed their check.";
    REMOTE_MERGES = Counter "terrace_remote_merges_total", "Objects that small segments of the bucket were put together to.";
    REMOTE_MERGED_SEGMENTS = Counter "terrace_remote_merged_segments_total", "Segments that went into them.";
    REMOTE_MERGED_BYTES = Counter "terrace_remote_merged_bytes_total", "Bytes of the log that went into them.";
    REMOTE_MERGE_ERRORS = Counter "terrace_remote_merge_errors_total", "Merges that failed.";
    REMOTE_CLEANS = Counter "terrace_remote_cleans_total", "Rounds of the cleaner over what is stored of a partition.";
    REMOTE_CLEAN_READ = Counter "terrace_remote_clean_read_bytes_total", "Bytes of the log that they read.";
    REMOTE_CLEAN_REMOVED = Counter "terrace_remote_clean_removed_bytes_total", "Bytes of the log that they took away.";
    REMOTE_CLEAN_ERRORS = Counter "terrace_remote_clean_errors_total", "Rounds that failed.";
    REMOTE_SCRUBBED_BYTES = Counter "terrace_remote_scrubbed_bytes_total", "Bytes that the scrubber read back.";
    REMOTE_SCRUBBED_SEGMENTS = Counter "terrace_remote_scrubbed_segments_total", "Segments that the scrubber read back.";
    REMOTE_SCRUB_DAMAGED = Counter "terrace_remote_scrub_damaged_total",
        "Segments that the scrubber found missing or damaged.";
    REMOTE_DRAIN_SEGMENTS = Gauge "terrace_remote_drain_segments_left",
        "Segments that are to come back into local logs and are not there yet.";
    REMOTE_DRAIN_BYTES = Gauge "terrace_remote_drain_bytes_left", "Bytes of the same, with their indexes.";
    REMOTE_CACHE_HITS = Counter "terrace_remote_cache_hits_total", "Chunks that were found in a cache, by tier.";
    REMOTE_CACHE_MISSES = Counter "terrace_remote_cache_misses_total", "Chunks that were in no cache.";
    REMOTE_CACHE_BYTES = Gauge "terrace_remote_cache_bytes", "Bytes in a cache, by tier.";
    REMOTE_CACHE_CORRUPT = Counter "terrace_remote_cache_corrupt_total", "Cached chunks on disk that failed their check.";
    REMOTE_CACHE_SKIPPED = Counter "terrace_remote_cache_skipped_writes_total", "Chunks not cached: the disk was busy.";
    REMOTE_CACHE_ERRORS = Counter "terrace_remote_cache_write_errors_total", "Chunks not cached: writing failed.";

    SHARE_DEAD_LETTERS = Counter "terrace_share_dead_letters_total", "Dead letters written, by share group.";
    SHARE_DEAD_LETTERS_FAILED = Counter "terrace_share_dead_letters_failed_total",
        "Records of share groups that were archived without the dead letter that was to be written.";
    SHARE_DEAD_LETTER_RETRIES = Counter "terrace_share_dead_letter_retries_total",
        "Dead letters that could not be written and wait to be tried again, by share group.";
    SHARE_BREAKER_OPEN = Gauge "terrace_share_breaker_open",
        "1 while a share group is given next to nothing of a topic, because too much of it fails.";

    CLIENT_GAUGE = Gauge "terrace_client_metric", "What clients pushed last (KIP-714), by metric and client.";
    CLIENT_COUNTER = Counter "terrace_client_metric_total", "Sums that clients pushed (KIP-714), by metric and client.";
    CLIENTS_PUSHING = Gauge "terrace_clients_pushing", "Clients that lately asked which metrics to push.";
    CLIENT_SAMPLES_DROPPED = Counter "terrace_client_samples_dropped_total",
        "Numbers of clients for which there was no room.";

    BUDGET_HELD = Gauge "terrace_memory_budget_held_bytes", "Bytes that a memory budget holds at this moment.";
    BUDGET_LIMIT = Gauge "terrace_memory_budget_limit_bytes", "The most that a memory budget may hold.";
    CONNECTION_PANICS = Counter "terrace_connection_panics_total", "Connections that ended in a panic.";
    TASK_PANICS = Counter "terrace_task_panics_total", "Background tasks that panicked.";
    RESIDENT = Gauge "process_resident_memory_bytes", "Resident memory of the process.";
    CPU = Counter "process_cpu_seconds_total", "CPU time of the process, user and system.";
    OPEN_FILES = Gauge "process_open_fds", "Open descriptors of the process.";
    STARTED = Gauge "process_start_time_seconds", "Unix time at which the broker started.";
}

/// Tells the recorder of crate `metrics` what its names mean.
pub(super) fn describe_all() {
    for Metric { name, kind, help } in ALL {
        match kind {
            Kind::Counter => metrics::describe_counter!(*name, *help),
            Kind::Gauge => metrics::describe_gauge!(*name, *help),
            Kind::Summary => metrics::describe_histogram!(*name, *help),
        }
    }
}
