//! `docs/operating/outages.md` promises that each of its rows is a test. Here the names are looked up.

use std::collections::BTreeSet;
use std::path::Path;

/// The names of all functions in the Rust sources below `folder`.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("the source tree can be read") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            let names = text.split("fn ").skip(1).map(|rest| {
                rest.chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect()
            });
            found.extend(names);
        }
    }
}

#[test]
fn every_row_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut known = BTreeSet::new();
    for folder in ["src", "tests", "tiering/src", "tiering/tests", "protocol-tests/tests"] {
        functions(&root.join(folder), &mut known);
    }
    let text = std::fs::read_to_string(root.join("docs/operating/outages.md")).expect("the document");
    let mut rows = 0;
    for row in text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| What ")) {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        let names: Vec<&str> = tests.split(", ").map(|name| name.trim_matches('`')).collect();
        let unknown: Vec<&&str> = names.iter().filter(|name| !known.contains(**name)).collect();
        assert!(unknown.is_empty(), "there is no test {unknown:?}:\n{row}");
        rows += 1;
    }
    assert!(rows > 10, "{rows} rows");
}
