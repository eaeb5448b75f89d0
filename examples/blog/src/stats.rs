//! What the cache did: by function, in this process.

use cache_aside::Stats;
use serde_json::{Value, json};

use crate::App;
use crate::authors::get_author;
use crate::board::{most_read, views_of};
use crate::comments::comments_on;
use crate::posts::{get_post, posts_by, recent};

/// A function and its counters.
pub(crate) type Row = (&'static str, Stats);

pub(crate) fn rows() -> Vec<Row> {
    vec![
        ("get_post", get_post::cache_stats()),
        ("recent", recent::cache_stats()),
        ("posts_by", posts_by::cache_stats()),
        ("get_author", get_author::cache_stats()),
        ("comments_on", comments_on::cache_stats()),
        ("most_read", most_read::cache_stats()),
        ("views_of", views_of::cache_stats()),
    ]
}

pub(crate) fn store() -> &'static str {
    cache_aside::global().map_or("none", |cache| cache.store_name())
}

pub(crate) fn as_json(app: &App) -> Value {
    let function = |(name, stats): Row| {
        let counters = json!({
            "near_hits": stats.near_hits,
            "hits": stats.hits,
            "misses": stats.misses,
            "loads": stats.loads,
            "hit_rate": stats.hit_rate(),
        });
        (name.to_owned(), counters)
    };
    let functions: serde_json::Map<_, _> = rows().into_iter().map(function).collect();
    json!({ "store": store(), "queries": app.db.queries(), "functions": functions })
}
