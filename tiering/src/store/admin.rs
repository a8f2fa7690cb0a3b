//! What S3 can do and the store's crate does not ask for: uploads of several parts that nobody finished, the lifecycle
//! rule that lets the store remove them, versioning, and whether a wrong checksum is refused.
//!
//! Each request is a URL that the crate signs, sent by the crate's own HTTP client; no type of either leaves this module.
//! Answers are bounded by [`ANSWER_BYTES_MAX`].

use std::sync::Arc;

use bytes::BytesMut;
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use object_store::ClientOptions;
use object_store::aws::AmazonS3;
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector};
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};
use serde::Deserialize;
use tokio::time::timeout;

use super::StoreError;
use super::bucket::Deadlines;

/// A page of 1 000 uploads with the longest keys takes less.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// The signature of a request holds this long; it is sent at once.
const SIGNED_FOR: std::time::Duration = std::time::Duration::from_secs(300);
/// The name of the rule that [`S3Admin::put_abort_rule`] puts.
pub const RULE_ID: &str = "terrace-abort-stale-uploads";
/// No bytes have this SHA-256 as far as anybody knows.
const WRONG_SHA256: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// An upload of several parts that is not finished. Its parts are stored and billed until it is aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// The key that the object would have.
    pub key: Path,
    /// The store's name of the upload.
    pub id: String,
    /// When it began, wall time of the store in milliseconds.
    pub initiated_ms: i64,
}

/// Of old contents of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versioning {
    /// None are kept.
    Off,
    /// They are kept, and billed.
    On,
    /// Those from before are kept.
    Suspended,
}

/// One lifecycle rule, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub id: String,
    /// It is in force.
    pub enabled: bool,
    /// Keys that it is for; empty is all.
    pub prefix: String,
    /// Days after which it aborts uploads.
    pub abort_days: Option<i64>,
    /// It deletes objects.
    pub expires: bool,
    /// It moves objects to another storage class.
    pub moves: bool,
}

/// Asks S3 itself.
#[derive(Debug)]
pub struct S3Admin {
    s3: Arc<AmazonS3>,
    http: HttpClient,
    deadlines: Deadlines,
}

struct Answer {
    status: u16,
    text: String,
}

impl S3Admin {
    /// Over the same store, with the same options of its connections.
    pub(super) fn new(s3: Arc<AmazonS3>, options: &ClientOptions, deadlines: Deadlines) -> object_store::Result<Self> {
        Ok(Self { s3, http: ReqwestConnector::default().connect(options)?, deadlines })
    }

    /// Unfinished uploads whose key begins with `prefix`. MinIO lists those of a prefix that is a whole key only; it
    /// aborts stale ones by itself.
    pub async fn uploads(&self, prefix: &str) -> Result<Vec<Upload>, StoreError> {
        let mut uploads = Vec::new();
        // Uploads of one key are in the order of their beginnings, so that ids say nothing of how far it is.
        let mut markers: Vec<(String, String)> = Vec::new();
        loop {
            let mut query = vec![("uploads", ""), ("prefix", prefix)];
            if let Some((key_marker, id_marker)) = markers.last() {
                query.extend([("key-marker", key_marker.as_str()), ("upload-id-marker", id_marker.as_str())]);
            }
            let answer = self.ask("GET", &Path::default(), &query, &[], Vec::new()).await?.good()?;
            let page: UploadsXml = answer.parse()?;
            for upload in page.uploads {
                let key = Path::parse(&upload.key).map_err(|error| StoreError::Unavailable(error.to_string()))?;
                let initiated_ms = upload.initiated.timestamp_millis();
                uploads.push(Upload { key, id: upload.upload_id, initiated_ms });
            }
            // A store that says "more" and from where it has been asked before would be asked for ever.
            let next = (page.next_key_marker, page.next_upload_id_marker);
            if !page.is_truncated || next.0.is_empty() {
                return Ok(uploads);
            }
            if markers.last().is_some_and(|last| next.0 < last.0) || markers.contains(&next) {
                return Err(StoreError::Unsupported("its list of unfinished uploads never ends".to_owned()));
            }
            // Keys only rise: what belongs to one before is no use.
            markers.retain(|(key, _)| *key == next.0);
            markers.push(next);
        }
    }

    /// Gives up an upload; fine when it is already gone.
    pub async fn abort(&self, upload: &Upload) -> Result<(), StoreError> {
        let answer = self.ask("DELETE", &upload.key, &[("uploadId", &upload.id)], &[], Vec::new()).await?;
        if answer.status == 404 { Ok(()) } else { answer.good().map(|_| ()) }
    }

    /// Are old versions of objects kept?
    pub async fn versioning(&self) -> Result<Versioning, StoreError> {
        let answer = self.ask("GET", &Path::default(), &[("versioning", "")], &[], Vec::new()).await?.good()?;
        let found: VersioningXml = answer.parse()?;
        Ok(match found.status.as_str() {
            "Enabled" => Versioning::On,
            "Suspended" => Versioning::Suspended,
            _ => Versioning::Off,
        })
    }

    /// The bucket's lifecycle rules.
    pub async fn rules(&self) -> Result<Vec<Rule>, StoreError> {
        let Some(text) = self.lifecycle().await? else { return Ok(Vec::new()) };
        parse_rules(&text)
    }

    /// Adds a rule that aborts uploads below `prefix` after `days`, beside all rules that are there. MinIO refuses it.
    pub async fn put_abort_rule(&self, prefix: &str, days: u32) -> Result<(), StoreError> {
        self.put_rule(&abort_rule(prefix, days)).await
    }

    /// Adds a rule, given as S3's XML element `Rule`.
    pub async fn put_rule(&self, rule: &str) -> Result<(), StoreError> {
        let before = self.lifecycle().await?;
        let text = with_rule(before.as_deref(), rule)?;
        // S3 wants a checksum with this request.
        let checksum = base64(&crc32c::crc32c(text.as_bytes()).to_be_bytes());
        let headers = [("x-amz-checksum-crc32c", checksum.as_str())];
        self.ask("PUT", &Path::default(), &[("lifecycle", "")], &headers, text.into_bytes()).await?.good().map(|_| ())
    }

    /// Is an object refused that comes with a checksum of other bytes? `key` must be free; nothing is left there.
    pub async fn refuses_wrong_checksum(&self, key: &Path) -> Result<bool, StoreError> {
        let headers = [("x-amz-checksum-sha256", WRONG_SHA256)];
        let answer = self.ask("PUT", key, &[], &headers, b"terrace".to_vec()).await?;
        match answer.status {
            400 => Ok(true),
            200..=299 => {
                self.ask("DELETE", key, &[], &[], Vec::new()).await?.good()?;
                Ok(false)
            }
            _ => answer.good().map(|_| false),
        }
    }

    async fn lifecycle(&self) -> Result<Option<String>, StoreError> {
        let answer = self.ask("GET", &Path::default(), &[("lifecycle", "")], &[], Vec::new()).await?;
        match answer.status {
            404 if answer.text.contains("NoSuchLifecycleConfiguration") => Ok(None),
            _ => answer.good().map(|answer| Some(answer.text)),
        }
    }

    async fn ask(
        &self,
        method: &str,
        key: &Path,
        query: &[(&str, &str)],
        headers: &[(&'static str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, StoreError> {
        let deadline = self.deadlines.request;
        let exchange = self.exchange(method, key, query, headers, body);
        timeout(deadline, exchange).await.unwrap_or(Err(StoreError::Timeout(deadline)))
    }

    async fn exchange(
        &self,
        method: &str,
        key: &Path,
        query: &[(&str, &str)],
        headers: &[(&'static str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, StoreError> {
        let wrong = |what: String| StoreError::Unsupported(what);
        let method = method.parse().map_err(|_| wrong(format!("method {method}")))?;
        let mut request = HttpRequest::new(HttpRequestBody::from(body));
        let mut options = SignedUrlOptions::default().with_query(query.iter().copied());
        for (name, value) in headers {
            let value: http::HeaderValue = value.parse().map_err(|_| wrong(format!("header {name}")))?;
            request.headers_mut().insert(*name, value.clone());
            options = options.with_signed_header(http::HeaderName::from_static(name), value);
        }
        *request.method_mut() = method;
        let url = self.s3.signed_url_opts(request.method().clone(), key, SIGNED_FOR, &options).await?;
        *request.uri_mut() = url.as_str().parse().map_err(|_| wrong(format!("address {url}")))?;
        let failed =
            |error: object_store::client::HttpError| StoreError::Unavailable(super::error::with_sources(&error));
        let answer = self.http.execute(request).await.map_err(failed)?;
        let status = answer.status().as_u16();
        let mut pieces = answer.into_body().bytes_stream();
        let mut text = BytesMut::new();
        while let Some(piece) = pieces.try_next().await.map_err(failed)? {
            if text.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err(StoreError::Unavailable(format!("an answer has more than {ANSWER_BYTES_MAX} bytes")));
            }
            text.extend_from_slice(&piece);
        }
        Ok(Answer { status, text: String::from_utf8_lossy(&text).into_owned() })
    }
}

impl Answer {
    fn good(self) -> Result<Self, StoreError> {
        let code = quick_xml::de::from_str::<ErrorXml>(&self.text).unwrap_or_default();
        let said = format!("{} {} {}", self.status, code.code, code.message);
        match self.status {
            200..=299 => Ok(self),
            401 | 403 => Err(StoreError::Denied(said)),
            404 => Err(StoreError::NotFound(said)),
            400 | 405 | 501 => Err(StoreError::Unsupported(said)),
            _ => Err(StoreError::Unavailable(said)),
        }
    }

    fn parse<T: for<'de> Deserialize<'de>>(&self) -> Result<T, StoreError> {
        quick_xml::de::from_str(&self.text)
            .map_err(|error| StoreError::Unsupported(format!("answer of the store: {error}")))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ErrorXml {
    code: String,
    message: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UploadsXml {
    #[serde(default)]
    is_truncated: bool,
    #[serde(default)]
    next_key_marker: String,
    #[serde(default)]
    next_upload_id_marker: String,
    #[serde(default, rename = "Upload")]
    uploads: Vec<UploadXml>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UploadXml {
    key: String,
    upload_id: String,
    initiated: DateTime<Utc>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct VersioningXml {
    status: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LifecycleXml {
    #[serde(rename = "Rule")]
    rules: Vec<RuleXml>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RuleXml {
    #[serde(rename = "ID")]
    id: String,
    status: String,
    prefix: String,
    filter: FilterXml,
    abort_incomplete_multipart_upload: Option<AbortXml>,
    expiration: Option<ExpirationXml>,
    #[serde(rename = "Transition")]
    transitions: Vec<serde::de::IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct FilterXml {
    prefix: String,
    and: AndXml,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct AndXml {
    prefix: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct AbortXml {
    days_after_initiation: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ExpirationXml {
    days: Option<i64>,
    date: Option<String>,
}

fn parse_rules(text: &str) -> Result<Vec<Rule>, StoreError> {
    let found: LifecycleXml = quick_xml::de::from_str(text)
        .map_err(|error| StoreError::Unsupported(format!("lifecycle rules of the store: {error}")))?;
    let rule = |rule: RuleXml| Rule {
        enabled: rule.status == "Enabled",
        prefix: [rule.prefix, rule.filter.prefix, rule.filter.and.prefix]
            .into_iter()
            .find(|p| !p.is_empty())
            .unwrap_or_default(),
        abort_days: rule.abort_incomplete_multipart_upload.map(|abort| abort.days_after_initiation),
        // The third kind removes markers of what was deleted, and no data.
        expires: rule.expiration.is_some_and(|expiration| expiration.days.is_some() || expiration.date.is_some()),
        moves: !rule.transitions.is_empty(),
        id: rule.id,
    };
    Ok(found.rules.into_iter().map(rule).collect())
}

fn abort_rule(prefix: &str, days: u32) -> String {
    format!(
        "<Rule><ID>{RULE_ID}</ID><Filter><Prefix>{}</Prefix></Filter><Status>Enabled</Status>\
         <AbortIncompleteMultipartUpload><DaysAfterInitiation>{days}</DaysAfterInitiation>\
         </AbortIncompleteMultipartUpload></Rule>",
        quick_xml::escape::escape(prefix)
    )
}

/// The rules that are there, byte by byte, and another behind them.
fn with_rule(before: Option<&str>, rule: &str) -> Result<String, StoreError> {
    let Some(before) = before else {
        return Ok(format!(
            "<LifecycleConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{rule}</LifecycleConfiguration>"
        ));
    };
    let end = before.rfind("</LifecycleConfiguration>");
    let end = end.ok_or_else(|| StoreError::Unsupported("lifecycle rules of the store end nowhere".to_owned()))?;
    Ok(format!("{}{rule}{}", &before[..end], &before[end..]))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let at = (word >> (18 - 6 * digit) & 63) as usize;
            text.push(if digit <= group.len() { char::from(DIGITS[at]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_as_the_rfc_says() {
        for (plain, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), text);
        }
    }

    #[test]
    fn rules_are_read_and_ours_is_put_behind_them() {
        let before = "<?xml version=\"1.0\"?>\n<LifecycleConfiguration xmlns=\"x\"><Rule><ID>a</ID><Status>Enabled</Status>\
                      <Filter><And><Prefix>logs/</Prefix><Tag><Key>k</Key><Value>v</Value></Tag></And></Filter>\
                      <Transition><Days>1</Days></Transition><Transition><Days>2</Days></Transition>\
                      <Expiration><Days>9</Days></Expiration></Rule><Rule><Prefix/><Status>Disabled</Status>\
                      <Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>\
                      </Rule></LifecycleConfiguration>";
        let after = with_rule(Some(before), &abort_rule("a&b/", 3)).unwrap();
        assert!(after.starts_with(before.trim_end_matches("</LifecycleConfiguration>")), "{after}");
        let rule = |id: &str, enabled, prefix: &str, abort_days, expires, moves| Rule {
            id: id.to_owned(),
            enabled,
            prefix: prefix.to_owned(),
            abort_days,
            expires,
            moves,
        };
        let expected = [
            rule("a", true, "logs/", None, true, true),
            rule("", false, "", None, false, false),
            rule(RULE_ID, true, "a&b/", Some(3), false, false),
        ];
        assert_eq!(parse_rules(&after).unwrap(), expected);
        assert_eq!(parse_rules(&with_rule(None, &abort_rule("a&b/", 3)).unwrap()).unwrap(), expected[2..]);
        assert!(parse_rules("nonsense").is_err() && with_rule(Some("nonsense"), "").is_err());
    }

    #[test]
    fn a_page_of_uploads_is_read() {
        let text = "<ListMultipartUploadsResult><Bucket>b</Bucket><IsTruncated>true</IsTruncated>\
                    <NextKeyMarker>k</NextKeyMarker><NextUploadIdMarker>i</NextUploadIdMarker>\
                    <Upload><Key>a/b</Key><UploadId>1</UploadId><Initiator><ID>x</ID></Initiator>\
                    <Initiated>2026-11-22T01:02:03.004Z</Initiated></Upload></ListMultipartUploadsResult>";
        let page: UploadsXml = quick_xml::de::from_str(text).unwrap();
        assert!(page.is_truncated && page.next_key_marker == "k" && page.next_upload_id_marker == "i");
        assert_eq!((page.uploads[0].key.as_str(), page.uploads[0].initiated.timestamp()), ("a/b", 1_795_309_323));
        let none: UploadsXml = quick_xml::de::from_str("<ListMultipartUploadsResult/>").unwrap();
        assert!(none.uploads.is_empty() && !none.is_truncated);
    }
}
