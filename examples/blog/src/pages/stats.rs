//! Hit rates, as bars.

use cache_aside::Stats;
use maud::{Markup, html};

use super::layout;
use crate::App;
use crate::sessions::Visitor;
use crate::stats;

pub(crate) fn page(visitor: &Visitor, app: &App) -> Markup {
    let main = html! {
        h1 { "What the cache does" }
        p {
            "Calls of cached functions since this process began. The store is " (stats::store()) "; the database has had "
            (app.db.queries()) " queries."
        }
        p.legend {
            span.near { "near: in this process" } " " span.store { "in the store" } " " span.miss { "missed" }
        }
        dl.bars {
            @for (name, stats) in stats::rows() {
                dt { code { (name) } " " strong { (rate(&stats)) } }
                dd {
                    (bar(&stats))
                    @if calls(&stats) > 0 { p.fine { (words(&stats)) } }
                }
            }
        }
    };
    layout("What the cache does", visitor, &main)
}

/// What the words below it say, drawn: so it is no picture to those who listen.
fn bar(stats: &Stats) -> Markup {
    let (near, store) = (share(stats, stats.near_hits), share(stats, from_store(stats)));
    html! {
        svg.bar width="100%" height="14" aria-hidden="true" focusable="false" {
            rect.empty width="100%" height="14" rx="3" {}
            @if calls(stats) > 0 {
                rect.miss width="100%" height="14" rx="3" {}
                rect.store width=(percent(near + store)) height="14" rx="3" {}
                rect.near width=(percent(near)) height="14" rx="3" {}
            }
        }
    }
}

fn words(stats: &Stats) -> String {
    let Stats { near_hits, misses, .. } = stats;
    format!("{near_hits} near, {} in the store, {misses} missed", from_store(stats))
}

fn rate(stats: &Stats) -> String {
    if calls(stats) == 0 { "not called yet".to_owned() } else { format!("{:.0} %", 100.0 * stats.hit_rate()) }
}

fn from_store(stats: &Stats) -> u64 {
    stats.hits + stats.plain_hits
}

fn calls(stats: &Stats) -> u64 {
    stats.near_hits + from_store(stats) + stats.misses
}

#[allow(clippy::cast_precision_loss, reason = "a bar has no 53 bits")]
fn share(stats: &Stats, part: u64) -> f64 {
    part as f64 / calls(stats).max(1) as f64
}

fn percent(share: f64) -> String {
    format!("{:.2}%", 100.0 * share)
}
