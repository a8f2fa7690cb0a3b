//! From `remote.storage.uri` to a store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum, S3ConditionalPut};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use super::admin::S3Admin;
use super::directory::Directory;
use crate::platform::fs::SharedFs;
use crate::tier::{TierError, TierOptions};

/// What kind of store it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// A directory of this machine.
    Local,
    /// S3 or something that speaks like it.
    S3,
    /// This process; gone with it. For tests.
    Memory,
}

impl StoreKind {
    /// Does the store refuse bytes that do not match the checksum sent with them? Others are read back in full.
    pub fn checks_checksums(self) -> bool {
        match self {
            Self::S3 => true,
            Self::Local | Self::Memory => false,
        }
    }
}

/// A store and where in it everything lies.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// What kind it is.
    pub kind: StoreKind,
    /// The prefix that the URI names.
    pub root: Path,
    /// Where the keys are paths of files.
    pub directory: Option<Directory>,
    /// Asks S3 what the store's crate does not; `None` elsewhere.
    pub admin: Option<Arc<S3Admin>>,
}

/// Opens what the options name. Nothing is asked of the store yet.
pub fn open(options: &TierOptions, fs: &SharedFs) -> Result<Opened, TierError> {
    let uri = options.uri.as_str();
    if uri == "memory:" {
        return Ok(Opened {
            store: Arc::new(InMemory::new()),
            kind: StoreKind::Memory,
            root: Path::default(),
            directory: None,
            admin: None,
        });
    }
    match uri.split_once("://") {
        Some(("file", path)) => open_local(path, fs),
        Some(("s3", _)) => open_s3(options),
        Some((scheme, _)) => Err(TierError::Uri(format!("scheme '{scheme}' is not supported; use file:// or s3://"))),
        None => Err(TierError::Uri(format!("'{uri}' is not a URI; use file:///directory or s3://bucket/prefix"))),
    }
}

fn open_local(path: &str, fs: &SharedFs) -> Result<Opened, TierError> {
    let dir = local_dir(path)?;
    let fail = |source| TierError::Directory { path: dir.clone(), source };
    fs.create_dir_all(&dir).map_err(fail)?;
    let store = LocalFileSystem::new_with_prefix(&dir)
        .map_err(|error| fail(std::io::Error::other(error)))?
        // Off by default in the crate; without it an upload that was verified could be gone after a power loss.
        .with_fsync(true)
        .with_automatic_cleanup(true);
    let directory = Some(Directory::new(dir.clone(), fs.clone()).map_err(fail)?);
    Ok(Opened { store: Arc::new(store), kind: StoreKind::Local, root: Path::default(), directory, admin: None })
}

/// The directory of a `file://` URI; one that does not begin with a slash is relative to the working directory.
pub fn local_dir(path: &str) -> Result<PathBuf, TierError> {
    let bad = || TierError::Uri(format!("'file://{path}' names no directory"));
    if path.starts_with('/') {
        let url = Url::parse(&format!("file://{path}")).map_err(|_| bad())?;
        return url.to_file_path().map_err(|()| bad());
    }
    if path.is_empty() {
        return Err(bad());
    }
    std::path::absolute(path).map_err(|source| TierError::Directory { path: path.into(), source })
}

/// Credentials come from the usual AWS variables: keys, web identity, container and instance roles.
fn open_s3(options: &TierOptions) -> Result<Opened, TierError> {
    s3(AmazonS3Builder::from_env(), options)
}

/// The S3 store that the options name, on top of what `builder` has (credentials, most of all).
pub fn s3(builder: AmazonS3Builder, options: &TierOptions) -> Result<Opened, TierError> {
    let url = Url::parse(&options.uri).map_err(|error| TierError::Uri(format!("'{}': {error}", options.uri)))?;
    let bucket = url.host_str().filter(|host| !host.is_empty());
    let bucket = bucket.ok_or_else(|| TierError::Uri(format!("'{}' names no bucket", options.uri)))?;
    let mut builder = builder.with_bucket_name(bucket);
    if let Some(region) = &options.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &options.endpoint {
        // The variable for S3 alone (AWS_ENDPOINT_URL_S3) would win over the plain one, so both are set.
        builder = builder.with_endpoint(endpoint).with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
    }
    let s3_endpoint = builder.get_config_value(&AmazonS3ConfigKey::S3Endpoint);
    let endpoint = s3_endpoint.or_else(|| builder.get_config_value(&AmazonS3ConfigKey::Endpoint));
    let plain = endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    if plain {
        builder = builder.with_virtual_hosted_style_request(false);
    }
    // Whole requests have no timeout here (30 s would kill a big PUT on a slow line): every request has our own deadline.
    let client = ClientOptions::new()
        .with_allow_http(plain)
        .with_timeout_disabled()
        .with_connect_timeout(Duration::from_secs(5))
        .with_pool_idle_timeout(Duration::from_secs(60));
    // The crate's own retries matter for parts, which only it can send again; the default of 180 s is too long.
    let retry = RetryConfig {
        max_retries: 2,
        retry_timeout: Duration::from_secs(20),
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(3),
            base: 3.0,
        },
    };
    let store = builder
        .with_client_options(client.clone())
        .with_retry(retry)
        .with_checksum_algorithm(Checksum::SHA256)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        // One key is deleted at a time, and not every S3-compatible store knows the bulk call.
        .with_disable_bulk_delete(true)
        .build()
        .map_err(|error| TierError::Uri(error.to_string()))?;
    let root = Path::from_url_path(url.path()).map_err(|error| TierError::Uri(error.to_string()))?;
    let store = Arc::new(store);
    let admin = S3Admin::new(Arc::clone(&store), &client, options.deadlines);
    let admin = admin.map_err(|error| TierError::Uri(error.to_string()))?;
    Ok(Opened { store, kind: StoreKind::S3, root, directory: None, admin: Some(Arc::new(admin)) })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::platform::fs::RealFs;

    #[rstest]
    #[case("gs://bucket", "scheme 'gs' is not supported")]
    #[case("/var/lib", "is not a URI")]
    #[case("s3://", "s3://")]
    #[case("file://", "names no directory")]
    fn what_is_not_understood_is_said(#[case] uri: &str, #[case] expected: &str) {
        let error = open(&TierOptions::new(uri, "c"), &RealFs::shared()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_directory_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = dir.path().join("a b/remote");
        let uri = format!("file://{}/a%20b/remote", dir.path().display());
        open(&TierOptions::new(uri, "c"), &RealFs::shared()).unwrap();
        assert!(wanted.is_dir());
    }

    #[test]
    fn a_bucket_has_its_prefix() {
        let mut options = TierOptions::new("s3://bucket/some/prefix", "c");
        options.endpoint = Some("http://127.0.0.1:1".to_owned());
        let opened = open(&options, &RealFs::shared()).unwrap();
        assert_eq!((opened.kind, opened.root.as_ref()), (StoreKind::S3, "some/prefix"));
    }
}
