//! Whether what happened may have happened.
//!
//! Producers, readers and the parent write lines:
//!
//! ```text
//! t <key> <value> <nature>       about to send this value
//! a <key> <value> <seq> <when>   the queue has taken it, under this number
//! r <key> <value> <begun>        a read that began then got this value
//! e <text>                       an error that isn't one of a server that is away
//! ```
//!
//! Workers write into the database (`db.rs`): what was handed to them, and what they applied.

use std::collections::{BTreeMap, BTreeSet};

/// What is to become of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Nature {
    Good,
    /// Its payload isn't what the handler takes.
    Undecodable,
    /// Its handler never succeeds.
    Failing,
    /// Its handler takes the whole process with it.
    Deadly,
}

impl Nature {
    const ALL: [Self; 4] = [Self::Good, Self::Undecodable, Self::Failing, Self::Deadly];

    /// As it stands in the lines, and the kind of such writes in the queue.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Good => "set",
            Self::Undecodable => "undecodable",
            Self::Failing => "fail",
            Self::Deadly => "die",
        }
    }

    /// What the cause of its dead letter speaks of.
    fn cause(self) -> &'static str {
        match self {
            Self::Good => unreachable!("it is no dead letter"),
            Self::Undecodable => "can't be decoded",
            Self::Failing => REFUSAL,
            Self::Deadly => "its workers ended",
        }
    }
}

/// What the handler of a failing write says.
pub(crate) const REFUSAL: &str = "the database refuses it";

#[derive(Debug, Clone, Copy)]
pub(crate) struct Ack {
    pub(crate) key: usize,
    pub(crate) value: u64,
    pub(crate) seq: u64,
    /// When the producer knew.
    pub(crate) when: u64,
}

/// A write came to a handler. In the order in which they were noted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Handed {
    pub(crate) key: usize,
    pub(crate) value: u64,
    pub(crate) seq: u64,
    pub(crate) attempt: u32,
    /// The process.
    pub(crate) by: u32,
    /// When its handler began, for people.
    pub(crate) begun: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Letter {
    pub(crate) key: usize,
    pub(crate) value: u64,
    pub(crate) seq: u64,
    pub(crate) cause: String,
    pub(crate) attempts: u32,
}

#[derive(Debug, Clone, Copy)]
struct Read {
    key: usize,
    value: u64,
    begun: u64,
}

/// All that is known of a run.
#[derive(Debug, Default)]
pub(crate) struct History {
    tried: BTreeMap<(usize, u64), Nature>,
    pub(crate) acks: Vec<Ack>,
    reads: Vec<Read>,
    errors: Vec<String>,
    pub(crate) handed: Vec<Handed>,
    /// Value and number of each key.
    pub(crate) rows: BTreeMap<usize, (u64, u64)>,
    pub(crate) letters: Vec<Letter>,
    /// What else there is to say of it.
    pub(crate) note: String,
}

/// How the queue was used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// How often a write is tried at most: once more if a worker died that had it in its hands, for nobody
    /// knows whether it had begun.
    pub(crate) attempts: u32,
    /// Whether a later write of the same key may take the place of one that wasn't handed over.
    pub(crate) coalesced: bool,
}

impl History {
    /// Adds what a process wrote.
    pub(crate) fn add(&mut self, lines: &[String]) {
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |at: usize| words[at].parse::<u64>().unwrap_or_else(|_| panic!("no number: {line}"));
            let key = || usize::try_from(number(1)).expect("few keys");
            match words[0] {
                "t" => {
                    let nature = Nature::ALL.into_iter().find(|nature| nature.name() == words[3]);
                    self.tried.insert((key(), number(2)), nature.expect("a nature"));
                }
                "a" => {
                    let (key, value, seq, when) = (key(), number(2), number(3), number(4));
                    self.acks.push(Ack { key, value, seq, when });
                }
                "r" => self.reads.push(Read { key: key(), value: number(2), begun: number(3) }),
                "e" => self.errors.push(line.clone()),
                _ => panic!("no line of a history: {line}"),
            }
        }
    }

    /// What is wrong; nothing if all is well.
    pub(crate) fn judge(&self, rules: Rules) -> Vec<String> {
        let mut wrong = self.errors.clone();
        wrong.extend(self.lost(rules.coalesced));
        wrong.extend(self.last());
        wrong.extend(self.numbers());
        wrong.extend(self.order(rules.coalesced));
        wrong.extend(self.invented(rules.attempts));
        wrong.extend(self.dead(rules.attempts));
        wrong.extend(self.stale());
        wrong
    }

    fn nature(&self, key: usize, value: u64) -> Option<Nature> {
        self.tried.get(&(key, value)).copied()
    }

    fn good(&self) -> impl Iterator<Item = &Ack> {
        self.acks.iter().filter(|ack| self.nature(ack.key, ack.value) == Some(Nature::Good))
    }

    /// Every write that was taken is handed over.
    fn lost(&self, coalesced: bool) -> Vec<String> {
        let handed: BTreeSet<_> = self.handed.iter().map(|handed| (handed.key, handed.seq)).collect();
        let settled = |ack: &&Ack| {
            let later = self.rows.get(&ack.key).is_some_and(|(_, seq)| *seq > ack.seq);
            handed.contains(&(ack.key, ack.seq)) || coalesced && later
        };
        self.good().filter(|ack| !settled(ack)).map(|ack| format!("lost: {ack:?}")).collect()
    }

    /// The last one that was taken is what the row says, or one that was sent after it.
    fn last(&self) -> Vec<String> {
        let mut last: BTreeMap<usize, Ack> = BTreeMap::new();
        for ack in self.good() {
            let newest = last.entry(ack.key).or_insert(*ack);
            if newest.value < ack.value {
                *newest = *ack;
            }
        }
        let wrong = last.values().filter_map(|ack| {
            let row = self.rows.get(&ack.key);
            let stands = row.is_some_and(|(value, seq)| {
                *value >= ack.value && *seq >= ack.seq && self.nature(ack.key, *value) == Some(Nature::Good)
            });
            (!stands).then(|| format!("not the last one: {row:?} after {ack:?}"))
        });
        wrong.collect()
    }

    /// Numbers are nobody else's, and grow with the values of a key.
    fn numbers(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut by_seq: BTreeMap<u64, (usize, u64)> = BTreeMap::new();
        let handed = self.handed.iter().map(|handed| (handed.seq, (handed.key, handed.value)));
        for (seq, write) in self.acks.iter().map(|ack| (ack.seq, (ack.key, ack.value))).chain(handed) {
            let first = *by_seq.entry(seq).or_insert(write);
            if first != write {
                wrong.push(format!("two writes of one number: {seq} is {first:?} and {write:?}"));
            }
        }
        let mut last: BTreeMap<usize, u64> = BTreeMap::new();
        for (seq, (key, value)) in by_seq {
            let largest = last.entry(key).or_default();
            if value < *largest {
                wrong.push(format!("key {key}: value {value} came as number {seq}, after {largest}"));
            }
            *largest = value.max(*largest);
        }
        wrong
    }

    /// What is handed over for the first time has a larger number than what was before. Where writes are skipped
    /// that holds for each process alone: what a worker that stands still is about to hand over, another one may
    /// have skipped.
    fn order(&self, coalesced: bool) -> Vec<String> {
        let mut seen: BTreeMap<(usize, u32), BTreeSet<u64>> = BTreeMap::new();
        let mut wrong = Vec::new();
        for handed in &self.handed {
            let of_key = seen.entry((handed.key, if coalesced { handed.by } else { 0 })).or_default();
            let is_late = of_key.last().is_some_and(|last| *last > handed.seq);
            if of_key.insert(handed.seq) && is_late {
                let around = self.handed.iter().filter(|other| {
                    other.key == handed.key
                        && other.value + 2 > handed.value
                        && other.value < handed.value + 3
                });
                wrong.push(format!("out of order: {handed:?}, among {:#?}", around.collect::<Vec<_>>()));
            }
        }
        wrong
    }

    /// Handlers get what was sent, and not too often.
    fn invented(&self, attempts: u32) -> Vec<String> {
        let handed = self.handed.iter();
        let wrong = handed.filter(|handed| {
            let nature = self.nature(handed.key, handed.value);
            nature.is_none_or(|nature| nature == Nature::Undecodable)
                || handed.attempt == 0
                || handed.attempt > attempts + 1
        });
        wrong.map(|handed| format!("never sent so: {handed:?}")).collect()
    }

    /// The dead letters are the poison, with its causes, and nothing else.
    fn dead(&self, attempts: u32) -> Vec<String> {
        let mut wrong = Vec::new();
        for letter in &self.letters {
            let fits = match self.nature(letter.key, letter.value) {
                None | Some(Nature::Good) => false,
                Some(nature @ Nature::Undecodable) => letter.cause.contains(nature.cause()),
                Some(nature) => {
                    let tried = attempts..=attempts + 1;
                    letter.cause.contains(nature.cause()) && tried.contains(&letter.attempts)
                }
            };
            if !fits {
                wrong.push(format!("no dead letter: {letter:?}"));
            }
        }
        let dead: BTreeSet<u64> = self.letters.iter().map(|letter| letter.seq).collect();
        if dead.len() < self.letters.len() {
            wrong.push("a letter is there twice".to_owned());
        }
        for ack in &self.acks {
            let nature = self.nature(ack.key, ack.value);
            if nature != Some(Nature::Good) && !dead.contains(&ack.seq) {
                wrong.push(format!("not among the dead letters: {nature:?} {ack:?}"));
            }
        }
        wrong
    }

    /// Nobody reads what is older than what was taken before the read began.
    fn stale(&self) -> Vec<String> {
        let mut acks: BTreeMap<usize, Vec<(u64, u64)>> = BTreeMap::new();
        for ack in self.good() {
            acks.entry(ack.key).or_default().push((ack.when, ack.value));
        }
        for of_key in acks.values_mut() {
            of_key.sort_unstable();
            // The largest so far.
            for at in 1..of_key.len() {
                of_key[at].1 = of_key[at].1.max(of_key[at - 1].1);
            }
        }
        let floor = |read: &Read| {
            let of_key = acks.get(&read.key)?;
            let before = of_key.partition_point(|(when, _)| *when < read.begun);
            before.checked_sub(1).map(|at| of_key[at])
        };
        let stale = |read: &Read| {
            let (when, value) = floor(read).filter(|(_, value)| read.value < *value)?;
            let later = (read.begun - when) / 1000;
            Some(format!("stale: {read:?} began {later} us after {value} was taken"))
        };
        self.reads.iter().filter_map(stale).collect()
    }

    /// How many reads there were.
    pub(crate) fn read_count(&self) -> usize {
        self.reads.len()
    }

    /// How many there are of each nature among those that were taken.
    pub(crate) fn count(&self, nature: Nature) -> usize {
        self.acks.iter().filter(|ack| self.nature(ack.key, ack.value) == Some(nature)).count()
    }

    /// How many were handed over more than once.
    pub(crate) fn repeated(&self) -> usize {
        let writes: BTreeSet<_> = self.handed.iter().map(|handed| handed.seq).collect();
        self.handed.len() - writes.len()
    }
}
