//! A static method that mentions neither `self` nor `Self` says where its helpers go.

use cache_aside::cache;

struct Service;

impl Service {
    #[cache(ttl = 60)]
    async fn get_user(id: u64) -> u64 {
        id
    }
}

fn main() {}
