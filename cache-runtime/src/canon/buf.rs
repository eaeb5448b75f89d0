//! Bytes that are put together without an allocation, as a rule.

use std::fmt;

/// Bytes that stay on the stack while they are few. No `Debug`: they are argument values.
pub(crate) struct Buf {
    inline: [u8; INLINE],
    /// Of all bytes. Beyond `INLINE`, they are all in `spilled`.
    len: usize,
    spilled: Vec<u8>,
}

const INLINE: usize = 128;

/// Stands for the length of a text when the length itself follows in eight bytes.
const LONG: u8 = 0xff;

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buf").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Buf {
    #[inline]
    pub(crate) const fn new() -> Self {
        Self { inline: [0; INLINE], len: 0, spilled: Vec::new() }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.inline.get(..self.len).unwrap_or(&self.spilled)
    }

    #[inline]
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if let Some(room) = self.inline.get_mut(self.len..end) {
            room.copy_from_slice(bytes);
        } else {
            if self.spilled.is_empty() {
                self.spill(bytes.len());
            }
            self.spilled.extend_from_slice(bytes);
        }
        self.len = end;
    }

    #[cold]
    fn spill(&mut self, more: usize) {
        self.spilled.reserve(4 * INLINE + more);
        self.spilled.extend_from_slice(&self.inline[..self.len]);
    }

    pub(super) fn overwrite(&mut self, start: usize, bytes: &[u8]) {
        let all = self.inline.get_mut(..self.len).unwrap_or(&mut self.spilled);
        all[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// Two pushes: an array put together from both would be stored bytewise and read back at once,
    /// which stalls the processor for longer than all the rest takes.
    #[inline]
    pub(super) fn push_tagged<const N: usize>(&mut self, tag: u8, content: [u8; N]) {
        self.push(&[tag]);
        self.push(&content);
    }

    #[inline]
    pub(super) fn push_text(&mut self, tag: u8, text: &[u8]) {
        if text.len() < usize::from(LONG) {
            self.push_tagged(tag, [text.len().to_le_bytes()[0]]);
        } else {
            self.push_tagged(tag, [LONG]);
            self.push(&(text.len() as u64).to_le_bytes());
        }
        self.push(text);
    }
}

impl fmt::Write for Buf {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}
