//! The old program of `tests/rolling_deploy.rs`: orders come in, a line each, and answers go out.

#[path = "old.rs"]
mod program;
#[path = "../support/mod.rs"]
mod support;
mod world;

use std::io::Write;

use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::main]
async fn main() {
    let world = world::World::connect(&std::env::args().nth(1).expect("the URL of a server")).await;
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    while let Some(order) = orders.next_line().await.expect("orders are text") {
        let answer = world.obey(&order).await;
        writeln!(std::io::stdout(), "{answer}").expect("somebody listens");
    }
}
