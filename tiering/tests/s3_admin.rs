//! What is asked of S3 beside its objects, against MinIO.

mod fixture;

use fixture::{Backend, Minio, machine};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt};
use terrace_tiering::inspect::Inspector;
use terrace_tiering::inspect::doctor::Verdict;
use terrace_tiering::store::StoreError;
use terrace_tiering::store::admin::{S3Admin, Versioning};

/// An upload that nobody finishes.
async fn unfinished(store: &dyn ObjectStore, key: &Path) {
    let mut upload = store.put_multipart(key).await.unwrap();
    upload.put_part(vec![7; 100].into()).await.unwrap();
}

async fn stale_uploads_are_listed_and_aborted(backend: &Backend, store: &dyn ObjectStore, admin: &S3Admin) {
    let tier = backend.tier("admin").await;
    let key = tier.names().all_segments().join("a b").join("stale");
    for _ in 0..2 {
        unfinished(store, &key).await;
    }
    // This store lists the uploads of a whole key only.
    let listed = admin.uploads(key.as_ref()).await.unwrap();
    assert_eq!(listed.iter().map(|upload| &upload.key).collect::<Vec<_>>(), [&key, &key]);
    assert_ne!(listed[0].id, listed[1].id);
    assert_eq!(tier.abort_stale_uploads(key.as_ref(), 3_600_000).await.unwrap(), 0, "they may be on their way");
    assert_eq!(tier.abort_stale_uploads(key.as_ref(), -60_000).await.unwrap(), 2);
    assert_eq!(admin.uploads(key.as_ref()).await.unwrap(), []);
    admin.abort(&listed[0]).await.expect("aborting twice is fine");
    assert_eq!(tier.remove_stale_uploads(0).await.unwrap(), 0);
}

async fn a_lifecycle_rule_is_put_beside_others(admin: &S3Admin) {
    assert_eq!(admin.rules().await.unwrap(), []);
    let rule = |id: &str| {
        format!(
            "<Rule><ID>{id}</ID><Filter><Prefix>{id}/</Prefix></Filter><Status>Enabled</Status>\
             <Expiration><Days>3</Days></Expiration></Rule>"
        )
    };
    for id in ["one", "two"] {
        admin.put_rule(&rule(id)).await.unwrap();
    }
    // This server knows no rule that aborts uploads, and says so; it does that by itself.
    let refused = admin.put_abort_rule("some/prefix/", 2).await;
    assert!(matches!(&refused, Err(StoreError::Unsupported(why)) if why.starts_with("400 ")), "{refused:?}");
    let rules = admin.rules().await.unwrap();
    let told: Vec<_> = rules.iter().map(|rule| (rule.id.as_str(), rule.prefix.as_str(), rule.expires)).collect();
    assert_eq!(told, [("one", "one/", true), ("two", "two/", true)], "what was there is there");
}

fn doctor(backend: &Backend) -> Inspector {
    let (opened, options) = (backend.opened("").unwrap(), backend.s3_options(""));
    Inspector::over(opened, &options, &machine())
}

async fn a_bucket_that_does_all_is_called_good(backend: &Backend) {
    let found = doctor(backend).examine(None, 0).await;
    let not_good: Vec<_> = found.iter().filter(|each| each.verdict != Verdict::Good).collect();
    assert!(found.len() >= 12, "{found:#?}");
    assert!(matches!(not_good[..], [one] if one.check == "lifecycle rules"), "no rule yet: {not_good:#?}");
    let refused = doctor(backend).put_abort_rule(1).await;
    assert!(refused.verdict == Verdict::Warn && refused.seen.contains("refused"), "{refused:?}");
}

async fn a_rule_that_deletes_data_is_a_failure(backend: &Backend) {
    let admin = backend.opened("").unwrap().admin.unwrap();
    let rule = "<Rule><ID>purge</ID><Filter><Prefix>some/</Prefix></Filter><Status>Enabled</Status>\
                <Expiration><Days>9</Days></Expiration></Rule>";
    admin.put_rule(rule).await.unwrap();
    let found = doctor(backend).examine(None, 0).await;
    let failed: Vec<_> = found.iter().filter(|each| each.verdict == Verdict::Fail).collect();
    assert!(matches!(failed[..], [one] if one.seen.contains("'purge' deletes objects")), "{failed:#?}");
}

#[tokio::test]
async fn minio() {
    let Some(minio) = Minio::start().await else { return };
    let opened = minio.backend.opened("admin").unwrap();
    let admin = opened.admin.as_ref().unwrap();
    stale_uploads_are_listed_and_aborted(&minio.backend, &opened.store, admin).await;
    assert_eq!(admin.versioning().await.unwrap(), Versioning::Off);
    let key = Path::from("some/prefix/probe");
    assert!(admin.refuses_wrong_checksum(&key).await.unwrap());
    assert!(opened.store.head(&key).await.is_err(), "nothing is left of it");
    a_bucket_that_does_all_is_called_good(&minio.backend).await;
    a_lifecycle_rule_is_put_beside_others(admin).await;
    a_rule_that_deletes_data_is_a_failure(&minio.backend).await;
}
