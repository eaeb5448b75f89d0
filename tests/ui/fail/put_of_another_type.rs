//! What is put is what the function returns.

use cache_aside::cache;

#[cache(ttl = 60)]
async fn get_user(id: u64) -> Result<bool, std::fmt::Error> {
    Ok(id > 0)
}

async fn put() {
    let _ = get_user::put_cache(1, &5).await;
}

fn main() {}
