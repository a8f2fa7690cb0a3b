//! What `meta.redb` says while no broker runs, for whoever checks the bucket against it. Nothing in it is changed; above
//! all the boot counter stays, which a start raises.

use std::collections::HashSet;
use std::path::Path;

use redb::{ReadableDatabase, ReadableTable};
use terrace_tiering::platform::fs::Fs;
use uuid::Uuid;

use super::backend::FileBackend;
use super::embedded::{self, FORMAT_VERSION, OpenError};
use super::remote_records;
use super::tables::{FORMAT, NODE, REMOTE_SEGMENTS};
use crate::protocol::record_batch::LeaderEpoch;

/// What a broker that is stopped knew of the bucket.
#[derive(Debug)]
pub struct AtRest {
    /// The boot counter of its last life.
    pub node_epoch: LeaderEpoch,
    /// The segments of all its rows, in any state.
    pub segments: HashSet<Uuid>,
}

impl AtRest {
    /// Reads the file at `path`, which belongs to this cluster. Whoever calls holds the locks of its directories. Blocks.
    pub fn read(fs: &dyn Fs, path: &Path, cluster_id: &str) -> Result<Self, OpenError> {
        let backend = FileBackend::open(fs, path).map_err(|error| OpenError::File(error.to_string()))?;
        let database = embedded::builder().create_with_backend(backend).map_err(embedded::file)?;
        let transaction = database.begin_read().map_err(embedded::file)?;
        let node = transaction.open_table(NODE).map_err(embedded::file)?;
        let format = node.get(FORMAT).map_err(embedded::file)?.map_or(0, |row| row.value());
        if format > FORMAT_VERSION {
            return Err(OpenError::NewerFormat(format));
        }
        let (image, _) = embedded::read_image(&database)?;
        if *image.cluster_id != *cluster_id {
            let (stored, given) = (image.cluster_id.to_string(), cluster_id.to_owned());
            return Err(OpenError::OtherCluster { stored, given });
        }
        let mut segments = HashSet::new();
        let rows = transaction.open_table(REMOTE_SEGMENTS).map_err(embedded::file)?;
        for entry in rows.iter().map_err(embedded::file)? {
            let (key, value) = entry.map_err(embedded::file)?;
            let segment = remote_records::decode_segment(key.value(), value.value());
            segments.insert(segment.map_err(|why| OpenError::Row { table: "remote_segments", why })?.uuid);
        }
        Ok(Self { node_epoch: image.node_epoch, segments })
    }
}
