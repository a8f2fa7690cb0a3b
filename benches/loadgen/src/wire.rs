//! The few pieces of Kafka's encoding that the load needs: versions before flexible fields, so that nothing varies in
//! length, but for what exists in flexible versions only.

/// Writes one request.
pub struct Writer(Vec<u8>);

impl Writer {
    /// Begins with room for the size and with a version 1 header.
    pub fn request(key: i16, version: i16) -> Self {
        let mut writer = Self(vec![0; 4]);
        writer.i16(key);
        writer.i16(version);
        writer.i32(0);
        writer.string("loadgen");
        writer
    }

    /// Begins with a version 2 header.
    pub fn flexible_request(key: i16, version: i16) -> Self {
        let mut writer = Self::request(key, version);
        writer.no_tags();
        writer
    }

    /// Begins with nothing: a part of a request.
    pub fn bare() -> Self {
        Self(Vec::new())
    }

    /// A part of a request.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn i8(&mut self, value: i8) {
        self.bytes(&value.to_be_bytes());
    }

    pub fn i16(&mut self, value: i16) {
        self.bytes(&value.to_be_bytes());
    }

    pub fn i32(&mut self, value: i32) {
        self.bytes(&value.to_be_bytes());
    }

    pub fn i64(&mut self, value: i64) {
        self.bytes(&value.to_be_bytes());
    }

    pub fn count(&mut self, count: usize) {
        self.i32(i32::try_from(count).unwrap_or(i32::MAX));
    }

    pub fn string(&mut self, text: &str) {
        self.i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
        self.bytes(text.as_bytes());
    }

    pub fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub fn compact_string(&mut self, text: &str) {
        self.varint(text.len() + 1);
        self.bytes(text.as_bytes());
    }

    /// No string, no array.
    pub fn null(&mut self) {
        self.varint(0);
    }

    /// The end of a structure in flexible versions.
    pub fn no_tags(&mut self) {
        self.varint(0);
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The request with its size.
    pub fn finish(mut self) -> Vec<u8> {
        let size = (self.0.len() - 4) as i32;
        self.0[..4].copy_from_slice(&size.to_be_bytes());
        self.0
    }
}

/// Reads one answer; running off its end gives zeros, which no check takes for success of something that was sent.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().unwrap_or([0; N])
    }

    pub fn i8(&mut self) -> i8 {
        i8::from_be_bytes(self.array())
    }

    pub fn varint(&mut self) -> usize {
        let (mut value, mut shift) = (0, 0);
        loop {
            let [byte] = self.array();
            value |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 || shift > 28 {
                return value;
            }
        }
    }

    /// Null reads as nothing.
    pub fn compact_string(&mut self) -> &'a [u8] {
        let len = self.varint().saturating_sub(1);
        self.take(len)
    }

    pub fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.array())
    }

    pub fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.array())
    }

    pub fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.array())
    }

    /// Null reads as nothing.
    pub fn count(&mut self) -> usize {
        usize::try_from(self.i32()).unwrap_or(0)
    }

    pub fn string(&mut self) -> &'a [u8] {
        let len = usize::try_from(self.i16()).unwrap_or(0);
        self.take(len)
    }
}
