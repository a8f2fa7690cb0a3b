//! The few pieces of Kafka's encoding that the load needs: versions before flexible fields, so that nothing varies in
//! length.

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
