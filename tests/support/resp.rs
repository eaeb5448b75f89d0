//! Just enough RESP2 and RESP3 to cut a stream into frames, to write a command and to read a reply.
//!
//! Streamed values (`$?`, `*?`) are not understood: no server sends them.

use std::ops::Range;

/// These bytes are no RESP.
#[derive(Debug)]
pub struct Malformed;

/// The length of the frame that `bytes` begin with; none while a part of it is missing.
pub fn frame(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    end(bytes, 0)
}

/// Cuts the first whole frame off.
pub fn take(bytes: &mut Vec<u8>) -> Result<Option<Vec<u8>>, Malformed> {
    Ok(frame(bytes)?.map(|length| bytes.drain(..length).collect()))
}

/// A push comes when the server likes; it answers nothing.
pub fn is_push(frame: &[u8]) -> bool {
    frame.first() == Some(&b'>')
}

/// Where the frame that begins at `at` ends.
fn end(bytes: &[u8], at: usize) -> Result<Option<usize>, Malformed> {
    let Some((kind, line, mut next)) = line(bytes, at) else { return Ok(None) };
    let (parts, one_more) = match kind {
        b'+' | b'-' | b':' | b',' | b'#' | b'(' | b'_' => return Ok(Some(next)),
        b'$' | b'=' | b'!' => {
            let whole = length(line)?.map_or(next, |payload| next + payload + 2);
            return Ok((whole <= bytes.len()).then_some(whole));
        }
        b'*' | b'~' | b'>' => (length(line)?.unwrap_or(0), 0),
        b'%' => (2 * length(line)?.unwrap_or(0), 0),
        // Attributes stand before the reply that they belong to.
        b'|' => (2 * length(line)?.unwrap_or(0), 1),
        _ => return Err(Malformed),
    };
    for _ in 0..parts + one_more {
        match end(bytes, next)? {
            Some(after) => next = after,
            None => return Ok(None),
        }
    }
    Ok(Some(next))
}

/// Kind and rest of the line at `at`, and where the next one begins.
fn line(bytes: &[u8], at: usize) -> Option<(u8, &[u8], usize)> {
    let rest = bytes.get(at..)?;
    let length = rest.windows(2).position(|pair| pair == b"\r\n")?;
    (length > 0).then(|| (rest[0], &rest[1..length], at + length + 2))
}

/// A length; `-1` is RESP2's way to say null.
fn length(line: &[u8]) -> Result<Option<usize>, Malformed> {
    match std::str::from_utf8(line) {
        Ok("-1") => Ok(None),
        Ok(digits) => digits.parse().map(Some).map_err(|_| Malformed),
        Err(_) => Err(Malformed),
    }
}

/// Where the payloads of a frame's bulk strings are; of a reply or of an array, not of a map.
pub fn bulks(frame: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some((kind, rest, next)) = line(frame, at) {
        at = match (kind, length(rest)) {
            (b'*', _) => next, // step inside
            (b'$', Ok(Some(payload))) => {
                found.push(next..next + payload);
                next + payload + 2
            }
            _ => match end(frame, at) {
                Ok(Some(after)) => after,
                _ => break,
            },
        };
    }
    found
}

/// The words of a command.
pub fn words(frame: &[u8]) -> Vec<Vec<u8>> {
    bulks(frame).into_iter().map(|payload| frame[payload].to_vec()).collect()
}

/// A command as it goes over the wire.
pub fn command<W: AsRef<[u8]>>(words: &[W]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(bulk(word.as_ref()));
    }
    bytes
}

pub fn bulk(payload: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", payload.len()).as_bytes(), payload, b"\r\n"].concat()
}

/// A reply for people: an error keeps its `-`, null is `(nil)`, the parts of an array are lines.
pub fn text(frame: &[u8]) -> String {
    let Some((kind, rest, next)) = line(frame, 0) else { return String::new() };
    let plain = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match (kind, length(rest)) {
        (b'-', _) => format!("-{}", plain(rest)),
        (b'_', _) | (b'$' | b'*', Ok(None)) => "(nil)".into(),
        (b'$' | b'=', Ok(Some(payload))) => plain(&frame[next..next + payload]),
        (b'!', Ok(Some(payload))) => format!("-{}", plain(&frame[next..next + payload])),
        (b'*' | b'~' | b'%' | b'>' | b'|', _) => {
            let (mut at, mut lines) = (next, Vec::new());
            while let Ok(Some(after)) = end(frame, at) {
                lines.push(text(&frame[at..after]));
                at = after;
            }
            lines.join("\n")
        }
        _ => plain(rest),
    }
}
