//! Every request of a store, with its fault.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

use super::{Fault, Faulty, answered, injected, met};
use crate::store::meter::Op;

/// Bytes of a piece of a body that trickles.
const SMALL_PIECE: usize = 8 << 10;

fn flipped(payload: PutPayload) -> PutPayload {
    flip(&Bytes::from(payload)).into()
}

fn flip(bytes: &[u8]) -> Bytes {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    bytes.into()
}

/// The body with its fault.
async fn damaged(mut answer: GetResult, fault: Option<Fault>) -> Result<GetResult> {
    let Some(fault @ (Fault::FlipBit | Fault::Cut(_) | Fault::Short(_) | Fault::Trickle(_) | Fault::WaitBody(_))) =
        fault
    else {
        return Ok(answer);
    };
    let (meta, range, attributes) = (answer.meta.clone(), answer.range.clone(), answer.attributes.clone());
    let extensions = std::mem::take(&mut answer.extensions);
    let whole = answer.bytes().await?;
    let pieces = match fault {
        Fault::Cut(after) => vec![Ok(whole.slice(..after.min(whole.len()))), Err(injected())],
        Fault::Short(after) => vec![Ok(whole.slice(..after.min(whole.len())))],
        Fault::WaitBody(_) => vec![Ok(whole.clone())],
        Fault::Trickle(_) => whole.chunks(SMALL_PIECE).map(|piece| Ok(whole.slice_ref(piece))).collect(),
        _ => vec![Ok(flip(&whole))],
    };
    let pieces = futures::stream::iter(pieces);
    let pieces = match fault {
        Fault::Trickle(pause) => pieces.then(move |piece| tokio::time::sleep(pause).map(|()| piece)).boxed(),
        Fault::WaitBody(gate) => {
            let wait = move |piece| {
                let gate = Arc::clone(&gate);
                // A closed gate is an open one.
                async move {
                    let _ = gate.acquire().await.map(tokio::sync::SemaphorePermit::forget);
                    piece
                }
            };
            pieces.then(wait).boxed()
        }
        _ => pieces.boxed(),
    };
    let payload = GetResultPayload::Stream(pieces);
    Ok(GetResult { payload, meta, range, attributes, extensions })
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Faulty({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, key: &Path, mut payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        let fault = self.before(Op::Put).await?;
        match fault {
            Some(Fault::FlipBit) => payload = flipped(payload),
            Some(Fault::Overwrite) => options.mode = PutMode::Overwrite,
            _ => {}
        }
        self.after(fault, self.inner.put_opts(key, payload, options).await).await
    }

    async fn put_multipart_opts(&self, key: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.inner.put_multipart_opts(key, options).await?;
        Ok(Box::new(FaultyUpload { inner, faulty: self.clone() }))
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        let fault = self.before(if options.head { Op::Head } else { Op::Get }).await?;
        let answer = self.after(fault.clone(), self.inner.get_opts(key, options).await).await?;
        damaged(answer, fault).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let faulty = self.clone();
        let each = keys.and_then(move |key| {
            let faulty = faulty.clone();
            async move {
                let fault = faulty.before(Op::Delete).await?;
                let one = futures::stream::iter([Ok(key.clone())]).boxed();
                let gone: Result<Vec<Path>> = faulty.inner.delete_stream(one).try_collect().await;
                faulty.after(fault, gone.map(|_| key)).await
            }
        });
        each.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (faulty, prefix) = (self.clone(), prefix.cloned());
        let stream = async move {
            let fault = match faulty.before(Op::List).await {
                Ok(fault) => fault,
                Err(error) => return futures::stream::iter([Err(error)]).boxed(),
            };
            match (faulty.after(fault.clone(), Ok(())).await, fault) {
                (Err(error), _) => futures::stream::iter([Err(error)]).boxed(),
                (Ok(()), Some(Fault::Cut(after))) => {
                    let broken = futures::stream::iter([Err(injected())]);
                    faulty.inner.list(prefix.as_ref()).take(after).chain(broken).boxed()
                }
                (Ok(()), _) => faulty.inner.list(prefix.as_ref()),
            }
        };
        stream.flatten_stream().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let fault = self.before(Op::List).await?;
        self.after(fault, self.inner.list_with_delimiter(prefix).await).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    faulty: Faulty,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        // The part's number is taken here, in the order of the calls, whatever becomes of it.
        let fault = self.faulty.draw(Op::PutPart);
        let data = if matches!(fault, Some(Fault::FlipBit)) { flipped(data) } else { data };
        let (faulty, part) = (self.faulty.clone(), self.inner.put_part(data));
        async move {
            faulty.step().await;
            let fault = met(fault).await?;
            faulty.after(fault, part.await).await
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.faulty.step().await;
        let fault = self.faulty.plan().next_complete.pop_front();
        let fault = met(fault).await?;
        let outcome = self.inner.complete().await;
        self.faulty.step().await;
        answered(fault, outcome).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
