//! Checked reads from one message.

use crate::{
    error::{MessageKind, ParseError, Problem},
    lsn::Lsn,
};

/// Reads a message from its front. A failed read names its field and leaves the reader in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    message: Option<MessageKind>,
    rest: &'a [u8],
    /// Length of the whole message, from which offsets are counted.
    total: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Reader<'a> {
        Reader {
            message: None,
            rest: message,
            total: message.len(),
        }
    }

    /// Reads the byte that tells the kind of message.
    pub(crate) fn kind(&mut self) -> Result<MessageKind, ParseError> {
        let field = "tag";
        let before = *self;
        let tag = self.u8(field)?;
        let Some(kind) = MessageKind::from_tag(tag) else {
            return Err(before.error(field, Problem::UnknownTag(tag)));
        };
        self.message = Some(kind);
        Ok(kind)
    }

    /// What has not been read.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// An error of the field that starts here.
    #[cold]
    pub(crate) fn error(&self, field: &'static str, problem: Problem) -> ParseError {
        let offset = self.total - self.rest.len();
        ParseError {
            message: self.message,
            field,
            offset,
            problem,
        }
    }

    #[cold]
    fn truncated(&self, field: &'static str, needed: usize) -> ParseError {
        self.error(
            field,
            Problem::Truncated {
                needed,
                remaining: self.rest.len(),
            },
        )
    }

    pub(crate) fn bytes(
        &mut self,
        field: &'static str,
        count: usize,
    ) -> Result<&'a [u8], ParseError> {
        let Some((bytes, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.truncated(field, count));
        };
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], ParseError> {
        let Some((bytes, rest)) = self.rest.split_first_chunk() else {
            return Err(self.truncated(field, N));
        };
        self.rest = rest;
        Ok(*bytes)
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, ParseError> {
        self.array(field).map(u8::from_be_bytes)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, ParseError> {
        self.array(field).map(u32::from_be_bytes)
    }

    pub(crate) fn i32(&mut self, field: &'static str) -> Result<i32, ParseError> {
        self.array(field).map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self, field: &'static str) -> Result<i64, ParseError> {
        self.array(field).map(i64::from_be_bytes)
    }

    pub(crate) fn lsn(&mut self, field: &'static str) -> Result<Lsn, ParseError> {
        self.array(field)
            .map(|bytes| Lsn(u64::from_be_bytes(bytes)))
    }

    /// Reads a 16-bit count of columns.
    pub(crate) fn column_count(&mut self) -> Result<u16, ParseError> {
        let field = "column count";
        let before = *self;
        let count = self.array(field).map(i16::from_be_bytes)?;
        u16::try_from(count).map_err(|_| before.error(field, Problem::Negative(count.into())))
    }

    /// Reads a 32-bit length or count.
    pub(crate) fn length(&mut self, field: &'static str) -> Result<usize, ParseError> {
        let before = *self;
        let length = self.i32(field)?;
        usize::try_from(length).map_err(|_| before.error(field, Problem::Negative(length)))
    }

    /// Reads a byte of flags, of which only those in `known` may be set.
    pub(crate) fn flags(&mut self, field: &'static str, known: u8) -> Result<u8, ParseError> {
        let before = *self;
        let flags = self.u8(field)?;
        if flags & !known != 0 {
            return Err(before.error(field, Problem::UnknownFlags(flags)));
        }
        Ok(flags)
    }

    /// Reads a string that ends with a zero byte.
    pub(crate) fn string(&mut self, field: &'static str) -> Result<&'a str, ParseError> {
        let Some(length) = self.rest.iter().position(|&byte| byte == 0) else {
            return Err(self.error(field, Problem::Unterminated));
        };
        let before = *self;
        let bytes = self.bytes(field, length)?;
        let text = str::from_utf8(bytes).map_err(|_| before.error(field, Problem::NotUtf8))?;
        self.bytes(field, 1)?;
        Ok(text)
    }

    /// Runs `read`, and returns the bytes that it consumed.
    pub(crate) fn consumed(
        &mut self,
        read: impl FnOnce(&mut Reader<'a>) -> Result<(), ParseError>,
    ) -> Result<&'a [u8], ParseError> {
        let before = self.rest;
        read(self)?;
        let count = before.len() - self.rest.len();
        Ok(before.get(..count).unwrap_or_default())
    }

    /// Ends the message: nothing may follow.
    pub(crate) fn finish(self) -> Result<(), ParseError> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(self.error("end", Problem::TrailingBytes(count))),
        }
    }
}
