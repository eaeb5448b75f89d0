// A key builder can make any key, so there is no telling which entries are all of the function's.

use cache_aside::cache;

#[cache(key_builder = |id| format!("user:{id}"))]
async fn get_user(id: u64) -> u64 {
    id
}

fn main() {
    let _ = get_user::clear_cache_all();
}
