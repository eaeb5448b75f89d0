//! Options of a few words list them.

use cache_aside::cache;

#[cache(helpers = "method_like")]
async fn helpers(id: u64) -> u64 {
    id
}

#[cache(single_flight = "none")]
async fn flight(id: u64) -> u64 {
    id
}

#[cache(codec = "cbor")]
async fn codec(id: u64) -> u64 {
    id
}

#[cache(codec = json)]
async fn unquoted(id: u64) -> u64 {
    id
}

#[cache(cache_none = "no")]
async fn none(id: u64) -> Option<u64> {
    Some(id)
}

#[cache(version = "2")]
async fn version(id: u64) -> u64 {
    id
}

#[cache(key_prefix = user)]
async fn prefix(id: u64) -> u64 {
    id
}

fn main() {}
