//! A field that isn't there is the compiler's error, at the template.

use cache_aside::cache;

#[cache(key = "user:{user.nmae}")]
async fn get_user(user: User) -> u64 {
    user.id
}

struct User {
    id: u64,
}

fn main() {}
