//! Request and response headers, parsed by hand over the frame.
//!
//! Version 1 has a client id, version 2 tagged fields behind it (KIP-482). The client id keeps its two-byte length in
//! all versions, and ApiVersions answers with header version 0 always, because its client knows no versions yet (KIP-511).

use std::borrow::Cow;

use bytes::BufMut;

use super::api_key::ApiKey;
use super::cursor::{Cursor, ReadError};

/// Why a frame has no readable header; the connection is closed, as Kafka does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Too short, or its tagged fields are damaged.
    #[error(transparent)]
    Damaged(#[from] ReadError),
    /// No API of a broker has this key.
    #[error("unknown api key {0}")]
    UnknownApiKey(i16),
}

/// Who asks for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    /// The API.
    pub api_key: ApiKey,
    /// The version of request and answer, not checked here.
    pub version: i16,
    /// Given back in the answer.
    pub correlation_id: i32,
    /// What the client calls itself; what isn't UTF-8 in it is replaced, as in Kafka.
    pub client_id: Option<Cow<'a, str>>,
}

impl<'a> RequestHeader<'a> {
    /// The header at the front of `frame` (without its length), and where the body begins.
    pub fn parse(frame: &'a [u8]) -> Result<(Self, usize), HeaderError> {
        let mut fields = Cursor::new(frame, false);
        let key = fields.i16()?;
        let version = fields.i16()?;
        let correlation_id = fields.i32()?;
        let api_key = ApiKey::from_code(key).ok_or(HeaderError::UnknownApiKey(key))?;
        let client_id = match usize::try_from(fields.i16()?) {
            Ok(length) => Some(String::from_utf8_lossy(fields.take(length)?)),
            Err(_) => None,
        };
        let mut tags = Cursor::new(fields.rest(), api_key.is_flexible(version));
        tags.skip_tags()?;
        let body = frame.len() - tags.rest().len();
        Ok((Self { api_key, version, correlation_id, client_id }, body))
    }
}

/// Appends the response header that goes with a request of this version.
pub fn put_response_header(out: &mut impl BufMut, api_key: ApiKey, version: i16, correlation_id: i32) {
    out.put_i32(correlation_id);
    if api_key != ApiKey::ApiVersions && api_key.is_flexible(version) {
        out.put_u8(0); // no tagged fields
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::messages::{ApiKey as CrateKey, RequestHeader as CrateHeader, ResponseHeader};
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::nothing(&[], HeaderError::Damaged(ReadError::Truncated))]
    #[case::four_bytes(&[0, 18, 0, 0], HeaderError::Damaged(ReadError::Truncated))]
    #[case::unknown_key(&[9, 99, 0, 0, 0, 0, 0, 1, 0, 0], HeaderError::UnknownApiKey(0x0963))]
    #[case::client_id_beyond_the_end(&[0, 18, 0, 0, 0, 0, 0, 1, 0, 5, b'x'], HeaderError::Damaged(ReadError::Truncated))]
    #[case::tag_beyond_the_end(&[0, 18, 0, 3, 0, 0, 0, 1, 0, 0, 1, 0, 9], HeaderError::Damaged(ReadError::Truncated))]
    #[case::endless_tags(&[0, 18, 0, 3, 0, 0, 0, 1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f], HeaderError::Damaged(ReadError::Truncated))]
    fn damaged_headers_are_refused(#[case] frame: &[u8], #[case] expected: HeaderError) {
        assert_eq!(RequestHeader::parse(frame), Err(expected));
    }

    #[rstest]
    #[case(&[0xff, 0xff], None)]
    #[case(&[0xff, 0xfe], None)]
    #[case(&[0, 0], Some(""))]
    #[case(&[0, 1, 0xff], Some("\u{fffd}"))]
    fn client_ids_are_read_as_kafka_reads_them(#[case] field: &[u8], #[case] expected: Option<&str>) {
        let frame = [&[0, 18, 0, 0, 0, 0, 0, 7], field].concat();
        let (header, body) = RequestHeader::parse(&frame).expect("readable");
        assert_eq!((header.client_id.as_deref(), header.correlation_id, body), (expected, 7, frame.len()));
    }

    fn any_key() -> impl Strategy<Value = (ApiKey, CrateKey)> {
        proptest::sample::select(ApiKey::ALL)
            .prop_filter_map("the crate knows it", |key| Some((key, CrateKey::try_from(key.code()).ok()?)))
    }

    proptest! {
        #[test]
        fn headers_agree_with_the_crate((key, crate_key) in any_key(), version in 0..14i16, correlation_id: i32, client in ".{0,20}") {
            // Version 0 is gone, and the crate takes it for a flexible one.
            prop_assume!((key, version) != (ApiKey::WriteTxnMarkers, 0));
            let header = CrateHeader::default()
                .with_request_api_key(key.code())
                .with_request_api_version(version)
                .with_correlation_id(correlation_id)
                .with_client_id(Some(StrBytes::from_string(client.clone())))
                .with_unknown_tagged_fields([(3, Bytes::from_static(b"abc"))].into());
            let mut frame = BytesMut::new();
            header.encode(&mut frame, crate_key.request_header_version(version)).expect("encodes");
            let header_bytes = frame.len();
            frame.extend_from_slice(b"body");
            let (parsed, body) = RequestHeader::parse(&frame).expect("readable");
            prop_assert_eq!(body, header_bytes);
            prop_assert_eq!(parsed, RequestHeader { api_key: key, version, correlation_id, client_id: Some(client.into()) });

            let mut answer = BytesMut::new();
            put_response_header(&mut answer, key, version, correlation_id);
            let mut answer = answer.freeze();
            let decoded = ResponseHeader::decode(&mut answer, crate_key.response_header_version(version)).expect("decodes");
            prop_assert_eq!(decoded.correlation_id, correlation_id);
            prop_assert!(answer.is_empty());
        }

        #[test]
        fn random_frames_never_panic(frame in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = RequestHeader::parse(&frame);
        }
    }
}
