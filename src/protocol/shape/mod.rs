//! The shape checker: walks a request before the crate `kafka-protocol` decodes it, because the crate allocates arrays by
//! the count that the bytes claim (an 8-byte Metadata request with 2147483647 topics aborts the process).
//!
//! The walk reads each byte at most once, recurses only as deep as the tables nest, and needs no memory. Every element takes at
//! least one byte, so that a count cannot make it long either. Like Kafka it does not mind bytes behind the message.
//! Produce and Fetch have readers of their own which check as they go; they need no walk.

mod tables;

use super::api_key::ApiKey;
use super::cursor::{Cursor, ReadError};

/// How a field lies in the bytes.
#[derive(Debug)]
enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// Two-byte or compact length, UTF-8.
    String,
    /// Four-byte or compact length; `bytes` and `records`.
    Bytes,
    /// Count, then elements of so many bytes each.
    FixedArray(usize),
    /// Count, then strings.
    StringArray,
    /// Count, then structures.
    Array(&'static [Field]),
    /// A structure; one that may be null has a byte in front (negative: null).
    Struct(&'static [Field]),
}

/// A field of a message, in the versions that have it.
#[derive(Debug)]
struct Field {
    name: &'static str,
    from: i16,
    to: i16,
    kind: Kind,
    /// The first version in which it may be null.
    null_from: i16,
    /// It is not in line but among the tagged fields.
    tag: Option<u32>,
}

const fn field(name: &'static str, from: i16, to: i16, kind: Kind) -> Field {
    Field { name, from, to, kind, null_from: i16::MAX, tag: None }
}

impl Field {
    const fn null(self, from: i16) -> Self {
        Self { null_from: from, ..self }
    }

    const fn tag(self, tag: u32) -> Self {
        Self { tag: Some(tag), ..self }
    }

    fn is_in(&self, version: i16) -> bool {
        self.from <= version && version <= self.to
    }
}

/// A request of one API in all its versions.
#[derive(Debug)]
struct Message {
    api_key: i16,
    versions: (i16, i16),
    flexible: i16,
    fields: &'static [Field],
}

/// Why a request must not be decoded; the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// No such version is known.
    #[error("{} has no version {version}", api_key.name())]
    Version {
        /// The API.
        api_key: ApiKey,
        /// The version asked for.
        version: i16,
    },
    /// A field promises what the bytes do not hold.
    #[error("field {name}: {error}")]
    Field {
        /// Kafka's name of it.
        name: &'static str,
        /// What is wrong.
        error: ReadError,
    },
}

/// What a sound request holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of the message; what lies behind is nobody's.
    pub bytes: usize,
    /// Array elements and tagged fields at all levels: decoding takes some hundred bytes of memory for each, which is more than
    /// their bytes on the wire, so admission charges for them.
    pub elements: usize,
}

/// Walks the request body `body`; only what passes may be decoded.
pub fn check(api_key: ApiKey, version: i16, body: &[u8]) -> Result<Shape, ShapeError> {
    let unknown = ShapeError::Version { api_key, version };
    let message = message(api_key).ok_or(unknown)?;
    if version < message.versions.0 || message.versions.1 < version {
        return Err(unknown);
    }
    let mut walk = Walk { version, elements: 0 };
    let mut bytes = Cursor::new(body, version >= message.flexible);
    walk.fields(message.fields, &mut bytes).map_err(|(name, error)| ShapeError::Field { name, error })?;
    Ok(Shape { bytes: body.len() - bytes.rest().len(), elements: walk.elements })
}

fn message(api_key: ApiKey) -> Option<&'static Message> {
    let index = tables::REQUESTS.binary_search_by_key(&api_key.code(), |message| message.api_key).ok()?;
    Some(&tables::REQUESTS[index])
}

type Refused = (&'static str, ReadError);

struct Walk {
    version: i16,
    elements: usize,
}

impl Walk {
    fn fields(&mut self, fields: &'static [Field], bytes: &mut Cursor<'_>) -> Result<(), Refused> {
        let version = self.version;
        for field in fields.iter().filter(|field| field.tag.is_none() && field.is_in(version)) {
            self.field(field, bytes)?;
        }
        let mut inner = None;
        let tags = bytes.tags(|tag, mut content| {
            self.elements += 1;
            let Some(field) = fields.iter().find(|field| field.tag == Some(tag) && field.is_in(version)) else {
                return Ok(());
            };
            let walked = self.field(field, &mut content).and_then(|()| match content.rest() {
                [] => Ok(()),
                _ => Err((field.name, ReadError::Truncated)), // its length says more than the field takes
            });
            walked.map_err(|refused| inner.insert(refused).1)
        });
        tags.map_err(|error| inner.unwrap_or(("tagged fields", error)))
    }

    fn field(&mut self, field: &'static Field, bytes: &mut Cursor<'_>) -> Result<(), Refused> {
        let refused = |error| (field.name, error);
        let present = match field.kind {
            Kind::Fixed(size) => bytes.take(size).map(|_| true),
            Kind::String => bytes.nullable_string().map(|value| value.is_some()),
            Kind::Bytes => bytes.nullable_bytes().map(|value| value.is_some()),
            Kind::FixedArray(size) => self.array(bytes, size).and_then(|count| match count {
                Some(count) => bytes.take(count * size).map(|_| true),
                None => Ok(false),
            }),
            Kind::StringArray => match self.array(bytes, 1).map_err(refused)? {
                Some(count) => (0..count).try_for_each(|_| bytes.string().map(|_| ())).map(|()| true),
                None => Ok(false),
            },
            Kind::Array(element) => match self.array(bytes, 1).map_err(refused)? {
                Some(count) => {
                    (0..count).try_for_each(|_| self.fields(element, bytes))?;
                    Ok(true)
                }
                None => Ok(false),
            },
            Kind::Struct(fields) => {
                let present = field.null_from > self.version || bytes.i8().map_err(refused)? >= 0;
                if present {
                    self.fields(fields, bytes)?;
                }
                Ok(present)
            }
        };
        match present.map_err(refused)? {
            false if field.null_from > self.version => Err(refused(ReadError::Null)),
            _ => Ok(()),
        }
    }

    fn array(&mut self, bytes: &mut Cursor<'_>, element_bytes_min: usize) -> Result<Option<usize>, ReadError> {
        let count = bytes.array(element_bytes_min)?;
        self.elements += count.unwrap_or(0);
        Ok(count)
    }
}

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
