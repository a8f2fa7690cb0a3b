use proptest::prelude::*;
use rstest::rstest;

use super::*;

#[rstest]
#[case::equals("a=b", &[("a", "b", 1)])]
#[case::colon("a:b", &[("a", "b", 1)])]
#[case::blank("a b c", &[("a", "b c", 1)])]
#[case::blanks_around("  a \t=  b ", &[("a", "b ", 1)])]
#[case::only_one_separator("a = = b", &[("a", "= b", 1)])]
#[case::no_value("a\nb=", &[("a", "", 1), ("b", "", 2)])]
#[case::comments("# x\n  ! y\n\n a=1 # no comment", &[("a", "1 # no comment", 4)])]
#[case::continued("a=1,\\\n   2,\\\r\n\t3\nb=4", &[("a", "1,2,3", 1), ("b", "4", 4)])]
#[case::not_continued("a=1\\\\\nb=2", &[("a", "1\\", 1), ("b", "2", 2)])]
#[case::comment_is_not_continued("# a\\\nb=2", &[("b", "2", 2)])]
#[case::escapes("a\\ b\\=c\\:d=\\t\\n\\r\\f\\\\\\q", &[("a b=c:d", "\t\n\r\u{c}\\q", 1)])]
#[case::unicode("a=\\u00e4\\uD83D\\uDE00é", &[("a", "ä😀é", 1)])]
#[case::last_line_continued("a=1\\", &[("a", "1", 1)])]
#[case::byte_order_mark("\u{feff}a=1", &[("a", "1", 1)])]
#[case::windows_path("d=C:\\\\x", &[("d", "C:\\x", 1)])]
#[case::empty("", &[])]
fn entries_are_read_as_java_reads_them(#[case] text: &str, #[case] expected: &[(&str, &str, usize)]) {
    let entries = parse(text).expect("valid");
    let found: Vec<_> = entries.iter().map(|e| (e.key.as_str(), e.value.as_str(), e.line)).collect();
    assert_eq!(found, expected);
}

#[rstest]
#[case("a=1\nb=\\u12", 2)]
#[case("a=\\u+123", 1)]
#[case("a=\\uzzzz", 1)]
fn a_broken_escape_is_told_with_its_line(#[case] text: &str, #[case] line: usize) {
    assert_eq!(parse(text), Err(SyntaxError { line }));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(\\PC|[\\\\\n\r\t =:#!u0-9a-f])*") {
        let _ = parse(&text);
    }

    #[test]
    fn plain_entries_come_back(key in "[a-z.]{1,20}", value in "[a-zA-Z0-9.,:/=-]{0,40}") {
        let entries = parse(&format!("{key} = {value}")).expect("valid");
        // A separator in front of the value would be taken for the entry's own only if none stood before it.
        prop_assert_eq!(&entries[0], &Entry { key, value, line: 1 });
    }
}
