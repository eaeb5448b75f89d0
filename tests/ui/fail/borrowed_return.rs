//! What is cached outlives the call.

use cache_aside::cache;

#[cache]
async fn name(text: &str) -> &str {
    text
}

#[cache]
async fn first(texts: &[String]) -> Option<&str> {
    texts.first().map(String::as_str)
}

fn main() {}
