use std::collections::BTreeSet;
use std::path::Path;

use super::metrics::ALL;

/// Names between quotation marks behind `counter!(`, `gauge!(` and `histogram!(`.
fn named_in(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("source folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            named_in(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("source file");
            for marker in ["counter!(", "gauge!(", "histogram!("] {
                let names = text.split(marker).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"'));
                found.extend(names.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
            }
        }
    }
}

#[test]
fn every_metric_that_is_counted_is_declared() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeSet::new();
    named_in(&root.join("src"), &mut found);
    named_in(&root.join("tiering/src"), &mut found);
    let is_name = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    found.retain(|name| is_name(name));
    let declared: BTreeSet<String> = ALL.iter().map(|metric| metric.name.to_owned()).collect();
    assert_eq!(declared.len(), ALL.len(), "a name is declared twice");
    let missing: Vec<_> = found.difference(&declared).collect();
    assert!(missing.is_empty(), "not in telemetry/metrics.rs: {missing:?}");
    assert!(found.contains("terrace_task_panics_total"), "the search finds nothing");
}
