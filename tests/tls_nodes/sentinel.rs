//! `rediss+sentinel://`.

use std::time::Instant;

use tokio::task::block_in_place;

use crate::sample::{eventually, write};
use crate::support::secs;
use crate::support::sentinel::Trio;
use crate::support::server::tls_lines;
use crate::{By, Papers};

impl Papers {
    fn trio(&self) -> Trio {
        let lines = tls_lines(&self.authority.file(), &self.node.cert, &self.node.key);
        let asks = if self.client.is_some() { "tls-auth-clients yes\n" } else { "" };
        let names = match self.by {
            By::Address => "",
            By::Name => "sentinel resolve-hostnames yes\nsentinel announce-hostnames yes\n",
        };
        let config = format!("{lines}tls-replication yes\n{asks}{names}");
        Trio::tls(self.kind, self.host, &config, |server| self.secured(server))
    }
}

async fn all_of(by: By) {
    let papers = Papers::of(by);
    let trio = block_in_place(|| papers.trio());
    let (world, other) = papers.worlds(&trio.url());
    let old = trio.primary();
    let rows = || {
        let keys = trio.primary().command(&["KEYS", "row:*"]);
        keys.lines().filter(|key| !key.is_empty()).count()
    };
    crate::works(&world, &other, rows).await;

    trio.failover(&[]);
    let new = trio.other(old);
    let begun = Instant::now();
    while trio.named().is_none_or(|named| named.port() != new.port()) {
        assert!(begun.elapsed() < secs(60), "no failover: {}", trio.sentinels[0].log());
        write(&world, 1).await;
        for id in 0..10 {
            world.check(id).await;
        }
    }
    eventually("kept invalidations are carried out", || world.cache.pending_invalidations() == 0).await;
    for id in 0..10 {
        world.until_hit(id).await;
        write(&world, id).await;
        world.check(id).await;
    }
    assert_eq!(new.command(&["EXISTS", "row:1"]), "1", "by the new primary");
    other.ping().await.unwrap();
    crate::tells(&world, &other).await;

    for server in trio.servers() {
        crate::heard_no_plain_word(server.port(), || server.log()).await;
    }
    for sentinel in &trio.sentinels {
        crate::heard_no_plain_word(sentinel.port(), || sentinel.log()).await;
    }
    papers.turn_others_away(&trio.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_by_their_addresses() {
    all_of(By::Address).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_by_their_names_that_ask_who_we_are() {
    all_of(By::Name).await;
}
