// A key builder can make any key, and a template that begins with a value anybody's: there is no telling
// which entries are all of the function's.

use cache_aside::cache;

#[cache(key_builder = |id| format!("user:{id}"))]
async fn get_user(id: u64) -> u64 {
    id
}

#[cache(key = "{tenant}:{id}")]
async fn get_order(tenant: &str, id: u64) -> u64 {
    id + tenant.len() as u64
}

fn main() {
    let _ = get_user::clear_cache_all();
    let _ = get_order::clear_cache_all();
}
