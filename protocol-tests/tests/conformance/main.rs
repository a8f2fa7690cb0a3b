//! What clients' own suites probe, API by API: each test is one behaviour, expected of our broker and of Apache Kafka
//! 4.3.1 alike (see `compare`). Files are named as those in `src/api`.

mod alter_replica_log_dirs;
mod api_versions;
mod compaction;
mod consumer_groups;
mod create_topics;
mod dead_letters;
mod delete_records;
mod describe;
mod describe_configs;
mod every_version;
mod fetch;
mod fetch_sessions;
mod group_first_rebalance;
mod group_limits;
mod group_members;
mod group_offsets;
mod group_rebalances;
mod group_scenario;
mod groups;
mod hostile_requests;
mod init_producer_id;
mod internal_topics;
mod list_offsets;
mod metadata;
mod produce;
mod recompression;
mod record_rules;
mod requests;
mod scenario;
mod share_groups;
mod tiering;
