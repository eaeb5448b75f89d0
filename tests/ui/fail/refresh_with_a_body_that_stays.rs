//! A load that outlives its caller runs on any thread, with arguments that live as long as they like.

use cache_aside::cache;
use serde::Serialize;
use std::rc::Rc;

#[cache(refresh_ahead = "20%")]
async fn not_static<T: Serialize + Send>(id: T) -> u64 {
    drop(id);
    1
}

#[cache(refresh_ahead = "20%")]
async fn not_send<T: Serialize + 'static>(id: T) -> u64 {
    drop(id);
    1
}

#[cache(refresh_ahead = "20%", skip(text))]
async fn opaque(text: impl AsRef<str>) -> u64 {
    text.as_ref().len() as u64
}

#[cache(refresh_ahead = "20%", skip(db))]
async fn shared(id: u64, db: Rc<u64>) -> u64 {
    id + *db
}

#[cache(refresh_ahead = "20%")]
async fn body(id: u64) -> u64 {
    let shared = Rc::new(id);
    std::future::ready(()).await;
    *shared
}

struct Text<'a>(&'a str);

impl Clone for Text<'_> {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

impl<'a> Text<'a> {
    #[cache(refresh_ahead = "20%", skip(self))]
    async fn of_the_impl(&self) -> u64 {
        self.0.len() as u64
    }
}

fn main() {}
