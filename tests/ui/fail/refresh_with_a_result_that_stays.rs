//! What a load in a task of its own returns must be able to leave that task.

use cache_aside::cache;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;
use std::rc::Rc;

#[derive(Serialize, serde::Deserialize)]
struct Local(PhantomData<Rc<()>>);

#[cache(refresh_ahead = "20%")]
async fn error(id: u64) -> Result<u64, Rc<u64>> {
    Ok(id)
}

#[cache(stale_if_error = "1h", timeout = 1, unless = |value| value.is_empty())]
async fn value(id: u64) -> Vec<Local> {
    (0..id).map(|_| Local(PhantomData)).collect()
}

#[cache(refresh_ahead = "20%")]
async fn not_static<T: Default + Serialize + DeserializeOwned + Send>() -> Option<T> {
    Some(T::default())
}

#[derive(Clone)]
struct Store<T>(T);

impl<T: Clone> Store<T> {
    #[cache(refresh_ahead = "20%", skip(self))]
    async fn not_send(&self, id: u64) -> u64 {
        id
    }
}

fn main() {}
