//! The arrows between the modules of the broker, held: a module may use only what ARCHITECTURE.md draws below it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Leaves that anyone may use.
const LEAVES: [&str; 3] = ["protocol", "config", "telemetry"];

/// Who may use whom, beside the leaves. `broker` and `cli` wire everything and are seen by nobody but each other.
const ARROWS: [(&str, &[&str]); 19] = [
    ("protocol", &[]),
    ("config", &["metadata"]),
    ("telemetry", &["cli"]),
    ("wal", &[]),
    ("log", &[]),
    ("metadata", &[]),
    ("partition", &["log", "wal", "metadata"]),
    ("remote_log", &["partition", "metadata", "log"]),
    ("coordinator", &["partition", "metadata", "wal"]),
    ("share", &["coordinator", "partition", "metadata", "log"]),
    ("group", &["share", "coordinator", "partition", "metadata"]),
    ("transaction", &["coordinator", "partition", "metadata"]),
    ("client_metrics", &["metadata"]),
    ("api", &["client_metrics", "group", "share", "transaction", "coordinator", "partition", "metadata", "wal", "log"]),
    ("server", &["api", "partition", "log"]),
    (
        "broker",
        &[
            "server",
            "api",
            "client_metrics",
            "group",
            "share",
            "transaction",
            "coordinator",
            "remote_log",
            "partition",
            "metadata",
            "log",
            "wal",
        ],
    ),
    ("adopt", &["metadata", "log"]),
    (
        "restore",
        &["broker", "group", "share", "transaction", "coordinator", "remote_log", "partition", "metadata", "log"],
    ),
    ("cli", &["adopt", "restore", "api", "broker", "log", "metadata", "remote_log", "partition", "share"]),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the source tree can be read") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The top-level modules that `text` names behind `crate::`, tests included.
fn used(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0;
            for part in list.split_inclusive([',', '{', '}']) {
                if depth == 0 {
                    let name: String =
                        part.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    found.insert(name);
                }
                depth += part.matches('{').count();
                if part.contains('}') {
                    if depth == 0 {
                        break;
                    }
                    depth -= 1;
                }
            }
        } else {
            found.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    found
}

#[test]
fn modules_use_only_what_lies_below_them() {
    let allowed: BTreeMap<_, BTreeSet<&str>> =
        ARROWS.iter().map(|(module, uses)| (*module, uses.iter().copied().collect())).collect();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&src).expect("below src");
        let first = inside.components().next().expect("a component").as_os_str().to_string_lossy().into_owned();
        let module = first.trim_end_matches(".rs");
        let Some(uses) = allowed.get(module) else {
            assert!(["lib", "main"].contains(&module), "{module} is not in the list of arrows");
            continue;
        };
        for name in used(&std::fs::read_to_string(&file).expect("a source file")) {
            let is_module = allowed.contains_key(name.as_str());
            if is_module && name != module && !LEAVES.contains(&name.as_str()) && !uses.contains(name.as_str()) {
                wrong.push(format!("{}: {module} may not use {name}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows against ARCHITECTURE.md:\n{}", wrong.join("\n"));
}
