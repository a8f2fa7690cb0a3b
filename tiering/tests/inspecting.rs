//! What an operator sees of a bucket.

mod fixture;

use std::sync::Arc;

use fixture::{Segment, machine, name_all};
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use terrace_tiering::inspect::doctor::Verdict;
use terrace_tiering::inspect::{InspectError, Inspector, Kind};
use terrace_tiering::store::faulty::{Fault, Faulty};
use terrace_tiering::store::meter::Op;
use terrace_tiering::store::open::{Opened, StoreKind};
use terrace_tiering::store::retry::ATTEMPTS_MAX;
use terrace_tiering::{Tier, TierOptions};

#[tokio::test]
async fn a_bucket_is_listed_shown_and_downloaded() {
    let dir = tempfile::tempdir().unwrap();
    let options = TierOptions::new(format!("file://{}/remote", dir.path().display()), "cluster");
    let tier = Tier::open(options.clone(), machine()).await.unwrap();
    tier.ensure_cluster_file().await.unwrap();
    let segment = Segment::new(40, 30, 100_000);
    tier.upload(segment.upload.clone()).await.unwrap();
    name_all(&tier).await;

    let inspector = Inspector::open(&options, &machine()).unwrap();
    assert_eq!(inspector.clusters().await.unwrap(), ["cluster"]);
    let lines = inspector.list("cluster").await.unwrap();
    let kinds: Vec<Kind> = lines.iter().map(|line| line.kind).collect();
    assert_eq!(kinds, [Kind::ClusterFile, Kind::Root, Kind::Segment]);

    let shown = |at: usize| inspector.dump(&lines[at].key);
    assert!(shown(0).await.unwrap().contains("\"cluster_id\": \"cluster\""));
    let root = shown(1).await.unwrap();
    assert!(root.contains("tier end    70") && root.contains("offsets 40..=69"), "{root}");
    let footer = shown(2).await.unwrap();
    assert!(footer.contains("offsets           40..=69") && footer.contains("chunk 2: position"), "{footer}");

    let copy = dir.path().join("copy.log");
    assert_eq!(inspector.download(&lines[2].key, &copy).await.unwrap(), lines[2].bytes);
    assert_eq!(std::fs::read(&copy).unwrap()[..segment.bytes.len()], segment.bytes);

    let missing = inspector.dump("cluster/nonsense").await.unwrap_err();
    assert!(matches!(missing, InspectError::Store(_) | InspectError::Key(_)), "{missing}");
}

/// What the doctor says of a store with these faults: check and verdict, those that are good left out.
async fn ailments(store: &Faulty) -> Vec<(&'static str, Verdict)> {
    let (kind, root) = (StoreKind::Memory, Path::default());
    let opened = Opened { store: Arc::new(store.clone()), kind, root, directory: None, admin: None };
    let inspector = Inspector::over(opened, &fixture::options(), &machine());
    let found = inspector.examine(None, 0).await;
    found.into_iter().filter(|each| each.verdict != Verdict::Good).map(|each| (each.check, each.verdict)).collect()
}

#[tokio::test]
async fn the_doctor_names_what_ails_a_store_and_leaves_nothing_behind() {
    let store = Faulty::new(Arc::new(InMemory::new()), 1);
    assert_eq!(ailments(&store).await, []);
    assert!(store.list(None).try_collect::<Vec<_>>().await.unwrap().is_empty(), "every probe is gone");

    // The first of the two meets a key that is free.
    (0..2).for_each(|_| store.next(Op::Put, Fault::Overwrite));
    assert_eq!(ailments(&store).await, [("create if absent", Verdict::Fail), ("read", Verdict::Fail)]);
    store.clear();
    (0..ATTEMPTS_MAX).for_each(|_| store.next(Op::Delete, Fault::Error));
    assert_eq!(ailments(&store).await, [("delete", Verdict::Fail)]);
    store.clear();
    store.next(Op::Get, Fault::FlipBit);
    assert_eq!(ailments(&store).await, [("read", Verdict::Fail)]);
    store.set_down(true);
    assert_eq!(ailments(&store).await, [("bucket", Verdict::Fail)]);
}

#[tokio::test]
async fn a_directory_passes_the_doctor() {
    let dir = tempfile::tempdir().unwrap();
    let options = TierOptions::new(format!("file://{}/remote", dir.path().display()), "");
    let found = Inspector::open(&options, &machine()).unwrap().examine(Some("c"), 0).await;
    assert!(found.iter().all(|each| each.verdict == Verdict::Good), "{found:#?}");
    assert_eq!(found.len(), 10);
}
