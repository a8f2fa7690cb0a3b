//! Requests of any API and version, made from the tables of the shape check with values of the caller's choice.

use bytes::BufMut;

use super::{Field, Kind};
use crate::protocol::api_key::ApiKey;
use crate::protocol::put::Put;

/// Where the contents of a message come from.
pub(crate) trait Values {
    /// Any number below this one.
    fn below(&mut self, end: usize) -> usize;
    /// A number or an id of so many bytes.
    fn fixed(&mut self, size: usize) -> Vec<u8>;
    /// A string.
    fn text(&mut self) -> String;
    /// `bytes` or `records`.
    fn bytes(&mut self) -> Vec<u8>;
}

/// The body of a request; `None` if there is no such version.
pub(crate) fn request(values: &mut impl Values, api_key: ApiKey, version: i16) -> Option<Vec<u8>> {
    let message = super::message(api_key)?;
    if version < message.versions.0 || message.versions.1 < version {
        return None;
    }
    let mut body = Vec::new();
    fields(values, message.fields, version, &mut Put { out: &mut body, flexible: version >= message.flexible });
    Some(body)
}

fn fields(values: &mut impl Values, fields: &[Field], version: i16, put: &mut Put<'_, Vec<u8>>) {
    let live = |field: &&Field| field.is_in(version);
    for inline in fields.iter().filter(live).filter(|field| field.tag.is_none()) {
        field(values, inline, version, put);
    }
    if !put.flexible {
        return;
    }
    let mut tagged: Vec<(u32, Vec<u8>)> = Vec::new();
    for known in fields.iter().filter(live) {
        if let (Some(tag), 0) = (known.tag, values.below(2)) {
            let mut content = Vec::new();
            field(values, known, version, &mut Put { out: &mut content, flexible: true });
            tagged.push((tag, content));
        }
    }
    if values.below(3) == 0 {
        // One that nobody knows.
        let size = values.below(20);
        tagged.push((77, values.fixed(size)));
    }
    put.tags(tagged.len() as u32);
    for (tag, content) in tagged {
        put.tag(tag, content.len());
        put.out.put_slice(&content);
    }
}

fn field(values: &mut impl Values, field: &Field, version: i16, put: &mut Put<'_, Vec<u8>>) {
    let nullable = field.null_from <= version;
    let null = nullable && values.below(4) == 0;
    let count = (!null).then(|| values.below(4));
    let elements = 0..count.unwrap_or(0);
    match field.kind {
        Kind::Fixed(size) => put.out.put_slice(&values.fixed(size)),
        Kind::String => {
            let text = values.text();
            put.nullable_string((!null).then_some(text.as_str()));
        }
        Kind::Bytes => {
            let bytes = (!null).then(|| values.bytes());
            put.len(bytes.as_ref().map(Vec::len));
            put.out.put_slice(&bytes.unwrap_or_default());
        }
        Kind::FixedArray(size) => {
            put.len(count);
            elements.for_each(|_| put.out.put_slice(&values.fixed(size)));
        }
        Kind::StringArray => {
            put.len(count);
            elements.for_each(|_| put.string(&values.text()));
        }
        Kind::Array(element) => {
            put.len(count);
            elements.for_each(|_| fields(values, element, version, put));
        }
        Kind::Struct(inner) => {
            if nullable {
                put.out.put_i8(if null { -1 } else { 1 });
            }
            if !null {
                fields(values, inner, version, put);
            }
        }
    }
}
