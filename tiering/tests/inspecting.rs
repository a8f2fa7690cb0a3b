//! What an operator sees of a bucket.

mod fixture;

use fixture::{Segment, TOPIC, machine};
use terrace_tiering::inspect::{InspectError, Inspector, Kind};
use terrace_tiering::manifest::commit::RootContent;
use terrace_tiering::{Tier, TierOptions};
use uuid::Uuid;

#[tokio::test]
async fn a_bucket_is_listed_shown_and_downloaded() {
    let dir = tempfile::tempdir().unwrap();
    let options = TierOptions::new(format!("file://{}/remote", dir.path().display()), "cluster");
    let tier = Tier::open(options.clone(), machine()).await.unwrap();
    tier.ensure_cluster_file().await.unwrap();
    let segment = Segment::new(40, 30, 100_000);
    tier.upload(segment.upload.clone()).await.unwrap();
    let entries = tier.rebuild_manifest(TOPIC, 0).await.unwrap();
    let content = RootContent {
        topic: TOPIC,
        partition: 0,
        leader_epoch: 1,
        writer: Uuid::nil(),
        log_start: 0,
        entries: &entries,
    };
    tier.commit_root(None, content).await.unwrap();

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
