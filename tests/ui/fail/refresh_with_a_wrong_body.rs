//! A mistake in a body that has moved is one error, where it is.

use cache_aside::cache;

#[cache(refresh_ahead = "20%")]
async fn value(id: u64) -> Option<u64> {
    id
}

#[derive(Clone)]
struct Service;

impl Service {
    #[cache(refresh_ahead = "20%", skip(self))]
    async fn unknown(&self, id: u64) -> u64 {
        id + missing
    }

    #[cache(refresh_ahead = "20%", skip(self))]
    async fn of_an_unknown_type(&self, id: Missing) -> u64 {
        id
    }
}

fn main() {}
