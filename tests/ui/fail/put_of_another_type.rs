//! What is put is what the function returns.

use cache_aside::cache;

#[cache(ttl = 60)]
async fn get_user(id: u64) -> Result<String, std::fmt::Error> {
    Ok(id.to_string())
}

async fn put() {
    let _ = get_user::put_cache(1, &5).await;
}

fn main() {}
