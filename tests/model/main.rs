//! The protocol, searched through: every order in which things can happen in small worlds, and
//! everything that can go wrong at every moment (I1, I2, I3, I6, I7, I10, I18, I20).
//!
//! `store.rs` is the server, `flight.rs` one process' queue, `reader.rs` one call step by step: the
//! rules of `cache-runtime/src/flight.rs`, `engine.rs` and `lead.rs`, one step for each wait. `claims.rs`
//! goes on where a value stays readable while it is loaded anew, `ends.rs` is how calls end. `ageing.rs`
//! is what time does, `faults.rs` what else may happen, `promises.rs` what must hold, and `mutants.rs`
//! shows that it can fail. Tags, fences, puts and write-behind have worlds of their own, `tags.rs`, `fences.rs`,
//! `puts.rs` and `writes.rs`.
//!
//! Time has no measure here: a lease, a claim or a value may end at any moment, a leader may be given up
//! at any moment, and whatever comes late comes after anything else. So extending a lease, which only
//! makes its end rarer, is no step. Not here either: puts by hand, kept invalidations (`recovery.rs`),
//! and the entries of two functions under one key.

mod ageing;
mod claims;
mod ends;
mod faults;
mod fences;
mod flaw;
mod flight;
mod mutants;
mod options;
mod promises;
mod protocol;
mod puts;
mod reader;
mod store;
mod tags;
mod world;
mod writes;

use std::fmt::Debug;
use std::hash::Hash;
use std::io::Write;
use std::time::Instant;

use ageing::{Age, Options};
use fences::Fences;
use flaw::Flaw;
use protocol::Protocol;
use puts::Puts;
use stateright::{Checker, HasDiscoveries, Model};
use tags::Tags;
use world::Kind::{self, Call, Refresh};
use writes::Writes;

fn world(readers: &[(u8, Kind)], writers: usize, faults: u8) -> Protocol {
    let refreshes = readers.iter().any(|(_, kind)| *kind == Refresh);
    let (readers, begin) = (readers.to_vec(), refreshes.then_some(Age::Fresh));
    Protocol {
        flaw: None,
        readers,
        writers,
        faults,
        fails: false,
        split: false,
        options: Options::NONE,
        begin,
    }
}

/// A world of a function with options, which fails at no charge.
fn ageing(options: Options, begin: Age, readers: &[(u8, Kind)], writers: usize, faults: u8) -> Protocol {
    Protocol { fails: true, options, begin: Some(begin), ..world(readers, writers, faults) }
}

/// A model that several threads can search.
trait Searchable:
    Model<State: Clone + Debug + Hash + PartialEq + Send + Sync, Action: Clone + Debug + PartialEq>
    + Send
    + Sync
    + 'static
{
}

impl Searchable for Protocol {}
impl Searchable for Tags {}
impl Searchable for Fences {}
impl Searchable for Puts {}
impl Searchable for Writes {}

/// Searches all of a world; nothing may break.
fn holds(name: &str, model: impl Searchable) {
    let begun = Instant::now();
    let checker = model.checker().threads(2).spawn_bfs().join();
    report(format_args!(
        "{name}: {} states, {} unique, up to {} steps, {:.1?}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        begun.elapsed()
    ));
    checker.assert_properties();
}

/// Searches a world with this flaw until these properties are found broken.
fn breaks(flaw: Flaw, protocol: Protocol, properties: &[&'static str]) {
    finds(flaw, Protocol { flaw: Some(flaw), ..protocol }, properties);
}

/// Searches until these properties are found broken, by the shortest way.
fn finds(flaw: impl Debug, model: impl Searchable, properties: &[&'static str]) {
    let until = HasDiscoveries::AllOf(properties.iter().copied().collect());
    let checker = model.checker().finish_when(until).spawn_bfs().join();
    for property in properties {
        let path =
            checker.discovery(property).unwrap_or_else(|| panic!("{flaw:?} isn't caught by {property}"));
        report(format_args!("{flaw:?} breaks {property}: {:?}", path.into_actions()));
    }
}

/// Not captured: numbers are read when all is well, too.
fn report(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[test]
fn calls_of_two_processes_during_two_writes() {
    holds("calls_of_two_processes_during_two_writes", world(&[(0, Call), (0, Call), (1, Call)], 2, 0));
}

#[test]
fn calls_of_one_process_and_one_fault() {
    holds("calls_of_one_process_and_one_fault", world(&[(0, Call), (0, Call), (0, Call)], 1, 1));
}

#[test]
fn calls_of_two_processes_and_one_fault_during_two_writes() {
    let name = "calls_of_two_processes_and_one_fault_during_two_writes";
    holds(name, world(&[(0, Call), (1, Call)], 2, 1));
}

#[test]
fn calls_of_one_process_and_two_faults() {
    holds("calls_of_one_process_and_two_faults", world(&[(0, Call), (0, Call)], 1, 2));
}

#[test]
fn refreshes_of_two_processes_and_a_call() {
    holds("refreshes_of_two_processes_and_a_call", world(&[(0, Refresh), (1, Refresh), (0, Call)], 1, 0));
}

#[test]
fn a_refresh_and_one_fault_during_two_writes() {
    holds("a_refresh_and_one_fault_during_two_writes", world(&[(0, Refresh), (1, Call)], 2, 1));
}

#[test]
#[ignore = "three minutes: `cargo test --test model -- --ignored --test-threads 1`"]
fn larger_worlds() {
    holds("two processes, one fault", world(&[(0, Call), (0, Call), (1, Call)], 1, 1));
    holds("four calls", world(&[(0, Call), (0, Call), (0, Call), (1, Call)], 1, 0));
    holds("a refresh, two calls, one fault", world(&[(0, Refresh), (0, Call), (1, Call)], 1, 1));
}
