//! Regular expressions of subscriptions: RE2 syntax, resolved here and not by the clients, so that all members of a group
//! mean the same topics.
//!
//! The crate's syntax is RE2's but for a few corners: `\Q…\E`, which is translated, and `\C`, which is refused. Matching
//! takes time linear in the name whatever the expression; what compiling may take is bounded.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use crate::metadata::image::Image;

/// Memory of one compiled expression, and of the automaton that matching builds.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// The expression, to match whole names; or why it is none.
pub fn compile(expression: &str) -> Result<Regex, String> {
    let expression = unquote(expression);
    // By itself first, so that an unbalanced bracket cannot pair with ours.
    build(&expression)?;
    build(&format!(r"\A(?:{expression})\z"))
}

fn build(expression: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(expression).size_limit(COMPILED_BYTES_MAX).dfa_size_limit(COMPILED_BYTES_MAX).build();
    built.map_err(|error| match error {
        regex::Error::Syntax(text) => last_line(&text).to_owned(),
        regex::Error::CompiledTooBig(_) => "expression too large".to_owned(),
        other => other.to_string(),
    })
}

/// The crate draws the expression with the place of the error; its last line says what is wrong.
fn last_line(text: &str) -> &str {
    let line = text.lines().last().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line)
}

/// Literal text between `\Q` and `\E`, escaped.
fn unquote(expression: &str) -> Cow<'_, str> {
    if !expression.contains(r"\Q") {
        return Cow::Borrowed(expression);
    }
    let mut out = String::with_capacity(expression.len());
    let mut rest = expression;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(quoted) = rest.strip_prefix(r"\Q") {
            let (literal, behind) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
            out.push_str(&regex::escape(literal));
            rest = behind;
        } else {
            // The backslash and what it escapes.
            let escaped = rest.chars().take(2).map(char::len_utf8).sum();
            out.push_str(&rest[..escaped]);
            rest = &rest[escaped..];
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The topics of `image` that each expression names. One that cannot be compiled names none.
pub fn resolve<'e>(
    expressions: impl Iterator<Item = &'e Arc<str>>,
    image: &Image,
) -> BTreeMap<Arc<str>, BTreeSet<Arc<str>>> {
    let names = |expression: &Arc<str>| match compile(expression) {
        Ok(regex) => image.topics.keys().filter(|name| regex.is_match(name)).cloned().collect(),
        Err(reason) => {
            tracing::error!(%expression, reason, "regular expression of a group cannot be read and names no topic");
            BTreeSet::new()
        }
    };
    expressions.map(|expression| (Arc::clone(expression), names(expression))).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::whole_names("foo", "foo", true)]
    #[case::not_parts("foo", "foobar", false)]
    #[case::prefix("foo.*", "foobar", true)]
    #[case::alternation_is_whole("foo|bar", "barx", false)]
    #[case::anchors_allowed("^foo$", "foo", true)]
    #[case::quoted(r"\Qa.b\E\d", "a.b1", true)]
    #[case::quoted_is_literal(r"\Qa.b\E", "axb", false)]
    #[case::quote_escaped(r"\\Q", r"\Q", true)]
    #[case::quote_to_the_end(r"\Qa+", "a+", true)]
    #[case::case_flag("(?i)FOO", "foo", true)]
    fn matches(#[case] expression: &str, #[case] name: &str, #[case] expected: bool) {
        assert_eq!(compile(expression).unwrap().is_match(name), expected);
    }

    #[rstest]
    #[case::open_bracket("foo[")]
    #[case::open_group("(foo")]
    #[case::balanced_only_with_ours("foo)(bar")]
    #[case::back_reference(r"(a)\1")]
    #[case::look_ahead("(?=a)b")]
    #[case::any_byte(r"\C")]
    #[case::too_large("(a{1000}){1000}")]
    fn is_refused(#[case] expression: &str) {
        assert!(!compile(expression).unwrap_err().is_empty());
    }
}
