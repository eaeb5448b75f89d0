//! The blog over HTTP: real processes, on the embedded store and on a Redis that the tests start.
#![allow(unreachable_pub)] // a test binary exports nothing

mod fleet;
mod instance;
mod load;
mod log_in;
mod pages;
mod reads;
mod views;

// What the tests of `cache-aside` start servers with.
#[allow(dead_code)]
#[path = "../../../../tests/support/link.rs"]
mod link;
#[allow(dead_code)]
#[path = "../../../../tests/support/net.rs"]
mod net;
#[allow(dead_code)]
#[path = "../../../../tests/support/process.rs"]
mod process;
#[allow(dead_code)]
#[path = "../../../../tests/support/resp.rs"]
mod resp;
#[allow(dead_code)]
#[path = "../../../../tests/support/server.rs"]
mod server;

use crate::instance::Home;
use crate::server::Server;

/// On each store, with rows of its own.
fn on_both(test: impl Fn(&Home)) {
    test(&Home::embedded());
    let server = Server::redis().start();
    test(&Home::on(&server));
}
