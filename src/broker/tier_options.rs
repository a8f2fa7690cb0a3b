//! The tier's options out of the broker's configuration; for the broker, and for `terrace remote`.

use terrace_tiering::cache::policy::Policy;
use terrace_tiering::tier::{DiskCacheOptions, TierOptions};
use terrace_tiering::upload::verify::Verify;

use crate::config::server::BrokerConfig;

/// What the tier of this broker has to know.
pub fn tier_options(config: &BrokerConfig, cluster_id: &str) -> TierOptions {
    let remote = &config.remote;
    let disk = DiskCacheOptions { dir: config.dirs.remote_cache.clone(), bytes: remote.cache_disk_bytes };
    TierOptions {
        endpoint: remote.endpoint.clone(),
        region: remote.region.clone(),
        memory_cache_bytes: remote.cache_memory_bytes,
        cache_policy: if remote.cache_tiny_lfu { Policy::TinyLfu } else { Policy::Lru },
        disk_cache: Some(disk).filter(|disk| disk.bytes > 0),
        read_ahead_stream_bytes: remote.read_ahead_stream_bytes,
        read_ahead_max_bytes: remote.read_ahead_bytes_max,
        copy_memory_bytes: remote.copy_memory_bytes,
        verify: if remote.copy_verify_full { Verify::Full } else { Verify::Footer },
        upload_bytes_per_s: remote.copy_bytes_per_second,
        download_bytes_per_s: remote.fetch_bytes_per_second,
        manifest_retention_ms: i64::try_from(remote.manifest_retention_ms).unwrap_or(i64::MAX),
        ..TierOptions::new(remote.uri.clone(), cluster_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::given::Given;

    /// The tier documents its defaults too; one of both would be wrong if they differed.
    #[test]
    fn the_tiers_own_defaults_are_the_declared_ones() {
        let config = BrokerConfig::defaults();
        assert_eq!(tier_options(&config, "c"), TierOptions::new(config.remote.uri.clone(), "c"));
    }

    #[test]
    fn a_bucket_brings_the_disk_cache() {
        let mut given = Given::default();
        for text in ["remote.storage.uri=s3://b/p", "remote.cache.disk.bytes=5", "remote.cache.dir=/x"] {
            given.read_override(text).expect("syntax");
        }
        let config = BrokerConfig::build(&given, None).expect("valid");
        let expected = DiskCacheOptions { dir: "/x".into(), bytes: 5 };
        assert_eq!(tier_options(&config, "c").disk_cache, Some(expected));
    }
}
