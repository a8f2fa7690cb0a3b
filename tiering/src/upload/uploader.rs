//! Uploads one segment and verifies it: in one request when it is small, else in parts. All copies of the node share
//! `remote.copy.memory.bytes`; an upload that hangs is an error.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use object_store::MultipartUpload;
use object_store::path::Path;
use tokio::time::{Instant, timeout, timeout_at};

use crate::object::footer::Footer;
use crate::platform::crash_point::{self, CrashPoint};
use crate::store::meter::Purpose;
use crate::store::{Bucket, StoreError};
use crate::tier::{CopyMemory, Tier};
use crate::upload::parts::{PART_BYTES, Parts};
use crate::upload::verify::Expected;
use crate::upload::{SegmentUpload, UploadError, Uploaded};

/// Parts of one object on their way at once; other copies need memory too.
const PARTS_IN_FLIGHT_MAX: usize = 4;

/// For what an object is sent, and in whose memory.
#[derive(Debug)]
struct Sending<'m> {
    bucket: Bucket,
    /// What the caller holds for it; without it each part takes its own.
    memory: Option<&'m CopyMemory>,
}

impl Tier {
    /// Copies a segment and verifies the object. When this returns an error, parts of the object may exist under its key.
    pub async fn upload(&self, segment: SegmentUpload) -> Result<Uploaded, UploadError> {
        let uploaded = self.send(segment, &Sending { bucket: self.bucket.on(Purpose::Copy), memory: None }).await?;
        metrics::counter!("terrace_remote_copied_segments_total").increment(1);
        metrics::counter!("terrace_remote_copied_bytes_total").increment(uploaded.object_bytes);
        Ok(uploaded)
    }

    /// The same for a segment that was put together of others, within memory that the caller has: `memory` covers the
    /// object once more, and not a byte is waited for while it is held.
    pub async fn upload_merged(&self, segment: SegmentUpload, memory: &CopyMemory) -> Result<Uploaded, UploadError> {
        self.send(segment, &Sending { bucket: self.bucket.on(Purpose::Merge), memory: Some(memory) }).await
    }

    /// The same for what a round of the cleaner has left of others.
    pub async fn upload_cleaned(&self, segment: SegmentUpload, memory: &CopyMemory) -> Result<Uploaded, UploadError> {
        self.send(segment, &Sending { bucket: self.bucket.on(Purpose::Clean), memory: Some(memory) }).await
    }

    async fn send(&self, segment: SegmentUpload, sending: &Sending<'_>) -> Result<Uploaded, UploadError> {
        let footer = footer_of(&segment)?;
        let tail = Bytes::from(footer.encode());
        let object_bytes = segment.log_bytes + tail.len() as u64;
        let key = self.names.segment(&object_ref(&footer, object_bytes));
        let parts = Parts::new(segment.log, segment.log_bytes, segment.chunks, tail.clone());
        let deadline = self.object_deadline(object_bytes);
        if object_bytes <= PART_BYTES {
            self.send_whole(sending, &key, parts, deadline).await?;
        } else {
            self.send_parts(sending, &key, parts, deadline).await?;
        }
        crash_point::reach(CrashPoint::CopyAfterUpload);
        let uuid = footer.identity.uuid;
        in_time(deadline, self.verify(&sending.bucket, &key, &Expected { footer, tail, object_bytes })).await?;
        crash_point::reach(CrashPoint::CopyAfterVerify);
        Ok(Uploaded { uuid, object_bytes })
    }

    async fn send_whole(
        &self,
        sending: &Sending<'_>,
        key: &Path,
        parts: Parts,
        deadline: Duration,
    ) -> Result<(), UploadError> {
        // Others hold it, and not the store: no time of the upload's.
        let _memory = self.memory_for(sending, parts.next_len()).await;
        let send = async {
            let (_, bytes) = parts.next().await?;
            // The uuid in the key is new, so an object that exists is ours, from an attempt whose answer was lost. Whether
            // it is whole is for the verification to say.
            sending.bucket.create(key, bytes).await?;
            Ok(())
        };
        in_time(deadline, send).await
    }

    async fn send_parts(
        &self,
        sending: &Sending<'_>,
        key: &Path,
        parts: Parts,
        deadline: Duration,
    ) -> Result<(), UploadError> {
        let bucket = &sending.bucket;
        let mut upload = bucket.start_parts(key).await?;
        let sent = self.send_each(sending, upload.as_mut(), parts, deadline).await;
        if sent.is_err() {
            bucket.abort_parts(upload.as_mut()).await;
            return sent;
        }
        let Err(error) = bucket.complete_parts(upload.as_mut()).await else { return Ok(()) };
        // It may be done, with its answer lost; the verification says whether what is there is whole.
        if bucket.head(key).await.is_ok() {
            return Ok(());
        }
        bucket.abort_parts(upload.as_mut()).await;
        Err(error.into())
    }

    async fn send_each(
        &self,
        sending: &Sending<'_>,
        upload: &mut dyn MultipartUpload,
        mut parts: Parts,
        deadline: Duration,
    ) -> Result<(), UploadError> {
        let bucket = &sending.bucket;
        let mut in_flight = FuturesUnordered::new();
        let mut until = Instant::now() + deadline;
        let late = || UploadError::Store(StoreError::Timeout(deadline));
        while parts.next_len() > 0 {
            let len = parts.next_len();
            // While memory is short, parts that are on their way must go on, for they hold it. Each has its own deadline.
            let memory = loop {
                let begun = Instant::now();
                tokio::select! {
                    memory = self.memory_for(sending, len), if in_flight.len() < PARTS_IN_FLIGHT_MAX => {
                        // Others held it, and not the store.
                        until += begun.elapsed();
                        break memory;
                    }
                    Some(done) = in_flight.next() => part_done(done)?,
                }
            };
            let (rest, bytes) = parts.next().await?;
            parts = rest;
            timeout_at(until, bucket.before_part(len)).await.map_err(|_| late())?;
            // Parts are numbered in the order of these calls.
            let part = upload.put_part(bytes.into());
            in_flight.push(async move { (bucket.finish_part(part, len).await, memory) });
        }
        while let Some(done) = timeout_at(until, in_flight.next()).await.map_err(|_| late())? {
            part_done(done)?;
        }
        Ok(())
    }

    /// Memory for a part, unless the caller has it.
    async fn memory_for(&self, sending: &Sending<'_>, bytes: u64) -> Option<CopyMemory> {
        match sending.memory {
            Some(_) => None,
            None => Some(self.copy_memory(bytes).await),
        }
    }

    /// Twice what the slowest acceptable transfer takes, or what our own rate limit makes of it.
    fn object_deadline(&self, object_bytes: u64) -> Duration {
        let deadlines = self.bucket.deadlines();
        let limit = |rate: Option<u64>| rate.map_or(u64::MAX, |rate| (rate / 4).max(1));
        let rate = deadlines
            .transfer_bytes_per_s
            .min(limit(self.options.upload_bytes_per_s))
            .min(limit(self.options.download_bytes_per_s));
        deadlines.request * 8 + Duration::from_secs(2 * (object_bytes / rate.max(1)))
    }
}

fn part_done((outcome, _memory): (Result<(), StoreError>, Option<CopyMemory>)) -> Result<(), UploadError> {
    outcome?;
    crash_point::reach(CrashPoint::CopyBetweenParts);
    Ok(())
}

async fn in_time<T>(deadline: Duration, work: impl Future<Output = Result<T, UploadError>>) -> Result<T, UploadError> {
    timeout(deadline, work).await.unwrap_or(Err(UploadError::Store(StoreError::Timeout(deadline))))
}

/// The footer that describes `segment`, if its parts agree.
fn footer_of(segment: &SegmentUpload) -> Result<Footer, UploadError> {
    let identity = &segment.identity;
    if identity.partition < 0 || identity.base_offset < 0 || identity.last_offset < identity.base_offset {
        return Err(UploadError::Invalid("offsets"));
    }
    let mut position = 0;
    let mut offset = identity.base_offset;
    for chunk in &segment.chunks {
        if chunk.position != position || chunk.length == 0 || chunk.first_offset < offset {
            return Err(UploadError::Invalid("chunks do not follow on"));
        }
        position += u64::from(chunk.length);
        offset = chunk.first_offset + 1;
    }
    if position != segment.log_bytes || position == 0 || offset > identity.last_offset + 1 {
        return Err(UploadError::Invalid("chunks do not cover the segment"));
    }
    Ok(Footer {
        identity: identity.clone(),
        log_bytes: segment.log_bytes,
        chunks: segment.chunks.clone(),
        epochs: segment.epochs.clone(),
        producer_snapshot: segment.producer_snapshot.clone(),
        aborted: segment.aborted.clone(),
    })
}

fn object_ref(footer: &Footer, object_bytes: u64) -> crate::names::ObjectRef {
    let identity = &footer.identity;
    crate::names::ObjectRef {
        topic: identity.topic,
        partition: identity.partition,
        base_offset: identity.base_offset,
        last_offset: identity.last_offset,
        leader_epoch: identity.leader_epoch,
        uuid: identity.uuid,
        object_bytes,
    }
}
