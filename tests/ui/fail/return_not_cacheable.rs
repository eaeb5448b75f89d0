//! A result that can't be stored is one error, at the return type.

use cache_aside::cache;

struct Profile;

#[cache]
async fn get_profile(id: u64) -> Profile {
    let _ = id;
    Profile
}

#[cache]
async fn in_a_result(id: u64) -> Result<Vec<Profile>, std::fmt::Error> {
    let _ = id;
    Ok(vec![])
}

fn main() {}
