//! Maps and structs, ordered by the bytes of their keys.

use serde::ser::{self, Error as _, Serialize};

use super::{Buf, Done, Encoder, Name, Unencodable};

/// The entries of a map or struct that is being encoded.
pub(super) struct Entries<'a, 'b> {
    encoder: &'a mut Encoder<'b>,
    spans: Vec<Span>,
}

/// Where an entry's key and value begin; the value goes on to the next entry.
struct Span {
    key: usize,
    value: usize,
}

impl<'a, 'b> Entries<'a, 'b> {
    pub(super) fn new(encoder: &'a mut Encoder<'b>, len: usize) -> Self {
        // `len` is a claim: it must not be able to exhaust memory.
        Self { encoder, spans: Vec::with_capacity(len.min(64)) }
    }

    #[inline]
    fn key<T: Serialize + ?Sized>(&mut self, key: &T) -> Done {
        let start = self.encoder.out.len();
        self.encoder.nested(key)?;
        self.spans.push(Span { key: start, value: self.encoder.out.len() });
        Ok(())
    }

    #[inline]
    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        if self.spans.is_empty() {
            self.encoder.failed = true;
            return Err(Unencodable::custom("a map's value came without its key"));
        }
        self.encoder.nested(value)
    }

    /// Sorts by key alone: a multimap's values of one key may mean something by their order.
    fn close(self) {
        let Self { encoder, spans } = self;
        let out = &mut *encoder.out;
        let bytes = out.as_slice();
        let key = |span: &Span| &bytes[span.key..span.value];
        // After a failure the spans may have holes, and nobody will read the bytes.
        if !encoder.failed && !spans.is_sorted_by_key(key) {
            let ends = spans.iter().skip(1).map(|next| next.key).chain([bytes.len()]);
            let mut entries: Vec<_> = spans.iter().zip(ends).collect();
            entries.sort_by_key(|(span, _)| key(span));
            let mut sorted = Buf::new();
            for (span, end) in entries {
                sorted.push(&bytes[span.key..end]);
            }
            out.overwrite(spans[0].key, sorted.as_slice());
        }
        encoder.end();
    }
}

impl ser::SerializeMap for Entries<'_, '_> {
    type Ok = ();
    type Error = Unencodable;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Done {
        self.key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        self.value(value)
    }

    fn end(self) -> Done {
        self.close();
        Ok(())
    }
}

macro_rules! fields {
    ($($kind:ident,)*) => {
        $(
            impl ser::$kind for Entries<'_, '_> {
                type Ok = ();
                type Error = Unencodable;

                #[inline]
                fn serialize_field<T: Serialize + ?Sized>(&mut self, name: Name, value: &T) -> Done {
                    self.key(name)?;
                    self.value(value)
                }

                fn end(self) -> Done {
                    self.close();
                    Ok(())
                }
            }
        )*
    };
}

fields! { SerializeStruct, SerializeStructVariant, }
