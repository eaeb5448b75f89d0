//! A list of tags is one of texts, and a tag is no pattern.

use cache_aside::{cache, cache_invalidate};

#[cache(tags = [])]
async fn none(id: u64) -> u64 {
    id
}

#[cache(tags = "users")]
async fn no_list(id: u64) -> u64 {
    id
}

#[cache(tags = [users, "user:*", "", "a", "a"])]
async fn four_mistakes(id: u64) -> u64 {
    id
}

#[cache(tags = ["user:{di}", "user:{id", "org:{value}{id}"])]
async fn bad_templates(id: u64) -> u64 {
    id
}

#[cache(tags = ["org:{value.org}"])]
async fn no_such_field(id: u64) -> u64 {
    id
}

#[cache(tags = ["org:{value.0}"])]
async fn of_an_option(id: u64) -> Option<(u64, u64)> {
    Some((id, id))
}

#[cache(tags = ["value:{value}"])]
async fn argument_named_value(value: u64) -> u64 {
    value
}

#[cache_invalidate(tags = [])]
async fn invalidates_none(id: u64) -> u64 {
    id
}

#[cache_invalidate(tags = ["user:{di}", "user:*"])]
async fn two_mistakes(id: u64) -> u64 {
    id
}

#[cache_invalidate(tags)]
async fn half_typed(id: u64) -> u64 {
    id
}

fn main() {}
