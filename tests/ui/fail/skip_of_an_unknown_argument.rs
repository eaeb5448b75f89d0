//! `skip` takes names of arguments.

use cache_aside::cache;

#[cache(skip(bd))]
async fn typo(id: u64, db: u64) -> u64 {
    id + db
}

#[cache(skip(self))]
async fn no_receiver(id: u64) -> u64 {
    id
}

#[cache(skip(db, db))]
async fn twice(id: u64, db: u64) -> u64 {
    id + db
}

#[cache(skip = db)]
async fn no_list(id: u64, db: u64) -> u64 {
    id + db
}

#[cache(skip())]
async fn nothing(id: u64) -> u64 {
    id
}

fn main() {}
