//! An upload counts only when the bucket has shown that it holds it.

/// `remote.copy.verify`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// Size, trailer and footer are read back; the bytes rest on the checksums that the store checked. A store that checks
    /// none is read back in full all the same.
    #[default]
    Footer,
    /// Everything is read back, chunk CRCs compared.
    Full,
}
