//! ShareAcknowledge 1-2: what a member of a share group says of records that it has (KIP-932).
//!
//! Versions: 2 renewed locks (KIP-1222). At `share.version` 0 it is answered UNSUPPORTED_VERSION.

use bytes::{Bytes, BytesMut};

use super::share_acknowledgements::{self, said};
use super::share_fetch::session_key;
use super::{Call, Disconnect, Frame, Node};
use crate::metadata::features::Feature;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::frame::FrameStart;
use crate::protocol::header::put_response_header;
use crate::protocol::messages::share::{ShareAcknowledgeRequest, ShareAcknowledgeResponse};
use crate::share::sessions::CLOSES;

/// Reads and answers one request.
pub async fn serve(node: &Node, call: &Call, body: Bytes) -> Result<Frame, Disconnect> {
    let request = ShareAcknowledgeRequest::decode(call.version, &body)
        .map_err(|error| Disconnect::Malformed(error.to_string()))?;
    let response = handle(node, request).await.unwrap_or_else(|error| ShareAcknowledgeResponse {
        error_code: error.code(),
        lock_timeout_ms: 0,
        partitions: Vec::new(),
    });
    let mut out = BytesMut::new();
    let frame = FrameStart::new(&mut out);
    put_response_header(&mut out, call.key, call.version, call.correlation_id);
    response.encode(call.version, &mut out);
    frame.finish(&mut out, 0);
    Ok(out.freeze())
}

async fn handle(node: &Node, request: ShareAcknowledgeRequest) -> Result<ShareAcknowledgeResponse, ErrorCode> {
    if node.metadata.image().features.level(Feature::Share) < 1 {
        return Err(ErrorCode::UnsupportedVersion);
    }
    let key = session_key(request.group_id.as_deref(), request.member_id.as_deref())?;
    let closes = request.session_epoch == CLOSES;
    match closes {
        true => node.share_sessions.check(&key)?,
        false => node.share_sessions.acknowledge(&key, request.session_epoch)?,
    }
    let limits = node.shares.limits(&key.group);
    let outcomes = share_acknowledgements::apply(node, &key, &request.partitions, request.is_renew, &limits).await;
    if closes {
        share_acknowledgements::close(node, &key).await;
    }
    Ok(ShareAcknowledgeResponse {
        error_code: 0,
        lock_timeout_ms: i32::try_from(limits.record_lock.as_millis()).unwrap_or(i32::MAX),
        partitions: outcomes.into_iter().map(|((topic, one), outcome)| (topic, one, said(outcome))).collect(),
    })
}
