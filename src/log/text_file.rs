//! Kafka's small text files: a version, a count, and as many lines. `leader-epoch-checkpoint` and the three
//! `*-offset-checkpoint` files are of this kind, all in version 0.

const VERSION: &str = "0";

/// Why a text file is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextFileError {
    /// A line (counted from 1) is not what it has to be, or not UTF-8.
    #[error("line {0} is malformed")]
    Malformed(usize),
    /// The first line is another version than 0.
    #[error("version is not 0")]
    Version,
    /// The second line counts other than the lines that follow.
    #[error("file announces {announced} entries and has {found}")]
    Count {
        /// What the file says.
        announced: u64,
        /// What it has.
        found: u64,
    },
}

/// The content of a file with these lines.
pub(super) fn write(lines: impl ExactSizeIterator<Item = String>) -> String {
    let mut text = format!("{VERSION}\n{}\n", lines.len());
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// The entries of a file. Memory follows the lines that are there, never the count that is announced.
pub(super) fn read<T>(text: &[u8], mut entry: impl FnMut(&str) -> Option<T>) -> Result<Vec<T>, TextFileError> {
    let text = std::str::from_utf8(text).map_err(|_| TextFileError::Malformed(1))?;
    let mut lines = text.lines();
    if lines.next().map(str::trim) != Some(VERSION) {
        return Err(TextFileError::Version);
    }
    let announced = lines.next().and_then(|line| line.trim().parse().ok()).ok_or(TextFileError::Malformed(2))?;
    let mut entries = Vec::new();
    for (number, line) in lines.enumerate() {
        entries.push(entry(line.trim_end()).ok_or(TextFileError::Malformed(number + 3))?);
    }
    let found = entries.len() as u64;
    if found == announced { Ok(entries) } else { Err(TextFileError::Count { announced, found }) }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::empty("0\n0\n", Ok(vec![]))]
    #[case::two("0\n2\n7\n8\n", Ok(vec![7, 8]))]
    #[case::no_last_newline("0\n1\n7", Ok(vec![7]))]
    #[case::nothing("", Err(TextFileError::Version))]
    #[case::other_version("1\n0\n", Err(TextFileError::Version))]
    #[case::no_count("0\n", Err(TextFileError::Malformed(2)))]
    #[case::cut("0\n2\n7\n", Err(TextFileError::Count { announced: 2, found: 1 }))]
    #[case::huge_count("0\n18446744073709551615\n", Err(TextFileError::Count { announced: u64::MAX, found: 0 }))]
    #[case::bad_line("0\n1\nx\n", Err(TextFileError::Malformed(3)))]
    fn reads_whole_files_only(#[case] text: &str, #[case] expected: Result<Vec<i32>, TextFileError>) {
        assert_eq!(read(text.as_bytes(), |line| line.parse().ok()), expected);
    }
}
