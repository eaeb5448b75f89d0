//! Slots of a cluster, and who has them.
//!
//! [Key distribution](https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#key-distribution-model):
//! CRC16 (XMODEM) of the key modulo 16384, or of what stands between its first `{` and the next `}`, if that
//! isn't nothing.

use std::sync::Arc;

use redis::Value;

use super::node::Node;

/// How many slots there are.
pub(super) const SLOTS: u16 = 16_384;

/// The slot of a key.
pub(super) fn slot_of(key: &[u8]) -> u16 {
    crc16::State::<crc16::XMODEM>::calculate(tag_of(key)) % SLOTS
}

/// The part of a key that chooses its slot.
fn tag_of(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|byte| *byte == b'{') else { return key };
    let behind = &key[open + 1..];
    match behind.iter().position(|byte| *byte == b'}') {
        Some(length) if length > 0 => &behind[..length],
        _ => key,
    }
}

/// A key of this slot that begins so, and that nobody writes. There is no brace in how it begins.
pub(super) fn key_in(slot: u16, beginning: &str) -> String {
    (0..u64::MAX)
        .map(|number| format!("{beginning}@probe:{{{number}}}"))
        .find(|key| slot_of(key.as_bytes()) == slot)
        .expect("there are keys of every slot")
}

/// Some slots and the host and port of their primary, as a node tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u16,
    pub(super) last: u16,
    /// None: that of who tells it.
    pub(super) host: Option<String>,
    pub(super) port: u16,
}

/// What `CLUSTER SLOTS` says. A node whose name isn't known has no slots here.
pub(super) fn ranges(reply: &Value) -> Option<Vec<Range>> {
    let Value::Array(ranges) = reply else { return None };
    let mut found = Vec::with_capacity(ranges.len());
    for range in ranges {
        let Value::Array(parts) = range else { return None };
        let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = &parts[..] else {
            return None;
        };
        let (host, port) = match &primary[..] {
            [Value::Nil, Value::Int(port), ..] => (None, port),
            [Value::BulkString(host), Value::Int(port), ..] => {
                (Some(String::from_utf8_lossy(host).into_owned()), port)
            }
            [Value::SimpleString(host), Value::Int(port), ..] => (Some(host.clone()), port),
            _ => return None,
        };
        let slot = |slot: i64| u16::try_from(slot).ok().filter(|slot| *slot < SLOTS);
        let (first, last, port) = (slot(*first)?, slot(*last)?, u16::try_from(*port).ok()?);
        // As it calls itself while it has no name to be called by.
        if host.as_deref() != Some("?") {
            found.push(Range { first, last, host: host.filter(|host| !host.is_empty()), port });
        }
    }
    Some(found)
}

/// Who has each slot.
#[derive(Clone)]
pub(super) struct SlotMap(Box<[Option<Arc<Node>>]>);

impl SlotMap {
    pub(super) fn empty() -> Self {
        Self(vec![None; usize::from(SLOTS)].into())
    }

    pub(super) fn owner(&self, slot: u16) -> Option<&Arc<Node>> {
        self.0[usize::from(slot)].as_ref()
    }

    /// Whether this node has the slot.
    pub(super) fn is_of(&self, slot: u16, node: usize) -> bool {
        self.owner(slot).is_some_and(|owner| owner.number == node)
    }

    pub(super) fn give(&mut self, first: u16, last: u16, node: &Arc<Node>) {
        self.0[usize::from(first)..=usize::from(last)].fill(Some(Arc::clone(node)));
    }

    /// How many slots nobody has.
    pub(super) fn uncovered(&self) -> usize {
        self.0.iter().filter(|owner| owner.is_none()).count()
    }

    /// The slots that have another owner than there.
    pub(super) fn changed_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = u16> {
        let number = |owner: &Option<Arc<Node>>| owner.as_ref().map(|node| node.number);
        let pairs = self.0.iter().zip(&before.0).zip(0..);
        pairs.filter(move |((now, then), _)| number(now) != number(then)).map(|(_, slot)| slot)
    }

    /// Each node once, with the first of its slots.
    pub(super) fn primaries(&self) -> Vec<(Arc<Node>, u16)> {
        let mut found: Vec<(Arc<Node>, u16)> = Vec::new();
        for (owner, slot) in self.0.iter().zip(0..) {
            if let Some(owner) = owner
                && !found.iter().any(|(node, _)| node.number == owner.number)
            {
                found.push((Arc::clone(owner), slot));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        // The check value of CRC16/XMODEM, and examples of `CLUSTER KEYSLOT`.
        assert_eq!(slot_of(b"123456789"), 0x31C3 % SLOTS);
        assert_eq!(slot_of(b"foo"), 12_182);
        assert_eq!(slot_of(b"somekey"), 11_058);
        assert_eq!(slot_of(b"foo{hash_tag}"), 2515);
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"{user1000}.followers"));
        assert_eq!(tag_of(b"foo{}{bar}"), b"foo{}{bar}");
        assert_eq!(tag_of(b"foo{{bar}}zap"), b"{bar");
        assert_eq!(tag_of(b"foo{bar}{zap}"), b"bar");
        assert_eq!(tag_of(b"foo{bar"), b"foo{bar");
        for slot in [0, 1, 9999, SLOTS - 1] {
            assert_eq!(slot_of(key_in(slot, "").as_bytes()), slot);
            assert_eq!(slot_of(key_in(slot, "shop:").as_bytes()), slot);
        }
    }

    #[test]
    fn what_a_node_tells_of_slots_is_read_and_what_it_may_leave_out() {
        let node =
            |host: Value, port| Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".to_vec())]);
        let range = |first, last, node| Value::Array(vec![Value::Int(first), Value::Int(last), node]);
        let host = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let reply = Value::Array(vec![
            range(0, 5460, node(host("10.0.0.1"), 6379)),
            range(5461, 5461, node(Value::Nil, 7000)),
            range(5462, 5462, node(host(""), 7001)),
            range(5463, 16_383, node(host("?"), 7002)),
        ]);
        let of = |first, last, host: Option<&str>, port| Range {
            first,
            last,
            host: host.map(str::to_owned),
            port,
        };
        let expected =
            [of(0, 5460, Some("10.0.0.1"), 6379), of(5461, 5461, None, 7000), of(5462, 5462, None, 7001)];
        assert_eq!(ranges(&reply).unwrap(), expected);
        for wrong in [
            Value::Nil,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![range(0, 16_384, node(host("h"), 1))]),
        ] {
            assert_eq!(ranges(&wrong), None, "{wrong:?}");
        }
    }
}
