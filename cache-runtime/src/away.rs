//! Calls whose load may go on without them: `refresh_ahead` and `timeout`.
//!
//! The arguments come as a tuple. `here` runs the body on them, borrowed as the caller gave them;
//! `away` makes owned copies and gives a future that needs nobody. One of the two is called, and
//! copies are made only when a load really leaves its caller.

use std::future::{Future, pending, poll_fn};
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::task::Poll;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};

use crate::ahead::Ticket;
use crate::cache::Cache;
use crate::call::{Call, Entered, enter, finish, take_refresh};
use crate::codec;
use crate::engine::Pass;
use crate::global;
use crate::lead::Lead;
use crate::policy::Fate;
use crate::sight::{Age, Ask, Hit};
use crate::value::Kind;

/// The body on copies of its arguments.
type Away<R> = Pin<Box<dyn Future<Output = R> + Send>>;

/// The decorated call of a function with `refresh_ahead` or `timeout`.
///
/// Cancel safe: a caller that is dropped leaves leases and flights in order; a load that has left its
/// caller goes on.
pub async fn call_owned<K, R, A, H, F, B, J>(call: Call, _kind: K, args: A, here: H, away: B, judge: J) -> R
where
    K: Kind<R> + 'static,
    K::Value: Serialize + DeserializeOwned + Send + 'static,
    K::Error: Send + 'static,
    R: 'static,
    H: FnOnce(A) -> F,
    F: Future<Output = R>,
    B: FnOnce(A) -> Away<R>,
    J: FnOnce(&K::Value) -> Fate + Send + 'static,
{
    let refresh = take_refresh(call.at.site);
    let Some((cache, ask)) = call.open::<K::Value>() else { return here(args).await };
    let mut pass = Pass::new(&cache, ask, refresh);
    let mut lead = match enter(&mut pass).await {
        Entered::Value(value, hit) => {
            if hit.age == Age::Due
                && let Some(ticket) = pass.ticket()
            {
                let (cache, ask) = (Cache::clone(&cache), pass.into_ask());
                spawn(renew::<K, R, J>(cache, ask, hit, ticket, away(args), judge));
            }
            return K::join(Ok(value));
        }
        Entered::Load(lead) => lead,
    };
    let Some((patience, stale)) = lead.patience() else {
        let outcome = lead.drive_caught(pin!(here(args))).await.map(K::split);
        return K::join(finish(lead, outcome, judge).await);
    };
    let decode = |hit: &Hit| codec::decode::<K::Value>(&hit.payload, hit.is_none).ok();
    let Some(ticket) = pass.ticket() else {
        // Enough loads go on without a caller; dropping this one lets the next caller try.
        drop(lead);
        if let Some(value) = decode(&stale) {
            pass.accept(&stale);
            return K::join(Ok(value));
        }
        return here(args).await;
    };
    let (waiting, gone) = oneshot::channel::<()>();
    let deadline = cache.core().options.load_deadline;
    // Once its caller has gone it is limited: nothing else would end it.
    let end = async move {
        let _ = gone.await;
        tokio::time::sleep(deadline).await;
    };
    let mut task = spawn(go_on::<K, R, J>(lead, ticket, away(args), judge, end));
    if let Ok(done) = tokio::time::timeout(patience, &mut task).await {
        return K::join(joined(done).await);
    }
    if let Some(hit) = pass.settle_for(patience, stale).await
        && let Some(value) = decode(&hit)
    {
        pass.accept(&hit);
        return K::join(Ok(value));
    }
    let done = task.await;
    drop(waiting);
    K::join(joined(done).await)
}

/// Renews a value in the background, if its claim is granted.
async fn renew<K, R, J>(cache: Cache, ask: Ask, hit: Hit, ticket: Ticket, work: Away<R>, judge: J)
where
    K: Kind<R>,
    K::Value: Serialize + DeserializeOwned,
    J: FnOnce(&K::Value) -> Fate,
{
    let end = tokio::time::sleep(cache.core().options.load_deadline);
    if let Some(lead) = Pass::new(&cache, ask, false).lead_ahead(&hit).await {
        go_on::<K, R, J>(lead, ticket, work, judge, end).await;
    }
}

/// A load without a caller; nothing if it is given up at the end.
async fn go_on<K, R, J>(
    mut lead: Box<Lead>,
    ticket: Ticket,
    mut work: Away<R>,
    judge: J,
    end: impl Future<Output = ()>,
) -> Option<Result<K::Value, K::Error>>
where
    K: Kind<R>,
    K::Value: Serialize + DeserializeOwned,
    J: FnOnce(&K::Value) -> Fate,
{
    let outcome = {
        let (mut driven, mut end) = (pin!(lead.drive_caught(work.as_mut())), pin!(end));
        poll_fn(|cx| match driven.as_mut().poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending => end.as_mut().poll(cx).map(|()| None),
        })
        .await
        .map(|outcome| outcome.map(K::split))
    };
    drop(work);
    let returned = match outcome {
        Some(outcome) => Some(finish(lead, outcome, judge).await),
        None => {
            lead.fail_over().await;
            None
        }
    };
    drop(ticket);
    returned
}

/// Spawns with the cache that is the global one here.
fn spawn<F>(load: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(global::carry(load))
}

/// What a load gave that ran in a task of its own.
async fn joined<T>(done: Result<Option<T>, JoinError>) -> T {
    match done.map_err(JoinError::try_into_panic) {
        Ok(Some(returned)) => returned,
        Err(Ok(panic)) => resume_unwind(panic),
        // The runtime is ending, and so is this call.
        Ok(None) | Err(Err(_)) => pending().await,
    }
}
