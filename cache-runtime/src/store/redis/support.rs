//! What the tests of the workspace share: here once, so that the servers of a process have numbers of their own.
#![allow(dead_code, unreachable_pub)] // these tests take a part

#[path = "../../../../tests/support/cluster.rs"]
pub(crate) mod cluster;
#[path = "../../../../tests/support/link.rs"]
pub(crate) mod link;
#[path = "../../../../tests/support/log.rs"]
pub(crate) mod log;
#[path = "../../../../tests/support/net.rs"]
pub(crate) mod net;
#[path = "../../../../tests/support/process.rs"]
pub(crate) mod process;
#[path = "../../../../tests/support/proxy.rs"]
pub(crate) mod proxy;
#[path = "../../../../tests/support/resp.rs"]
pub(crate) mod resp;
#[path = "../../../../tests/support/seen.rs"]
pub(crate) mod seen;
#[path = "../../../../tests/support/server.rs"]
pub(crate) mod server;
#[path = "../../../../tests/support/tricks.rs"]
pub(crate) mod tricks;
