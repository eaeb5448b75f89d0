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
use tracing::Instrument;

use crate::ahead::Ticket;
use crate::cache::Cache;
use crate::call::{Call, Entered, enter, finish};
use crate::close::Nearness;
use crate::engine::Pass;
use crate::global;
use crate::lead::Lead;
use crate::policy::Fate;
use crate::refresh::take_refresh;
use crate::sight::{Age, Ask, Hit, Sight};
use crate::value::Kind;

/// The body on copies of its arguments.
type Away<R> = Pin<Box<dyn Future<Output = R> + Send>>;

/// The decorated call of a function with `refresh_ahead` or `timeout`.
///
/// Cancel safe: a caller that is dropped leaves leases and flights in order; a load that has left its
/// caller goes on.
pub async fn call_owned<K, R, A, H, F, B, J>(
    mut call: Call<impl Nearness<K::Value>>,
    _kind: K,
    args: A,
    here: H,
    away: B,
    judge: J,
) -> R
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
    let Some((cache, ask)) = call.open::<K::Value>(refresh) else { return here(args).await };
    let mut pass = Pass::new(&cache, ask, refresh);
    let mut lead = match enter(&mut pass, &call.near).await {
        Entered::Value(value, hit) => {
            if hit.age == Age::Due
                && let Some(ticket) = pass.renewal()
            {
                let (cache, ask) = (Cache::clone(&cache), pass.into_ask());
                spawn(renew::<K, R, J>(cache, ask, hit, ticket, away(args), judge));
            }
            return K::join(Ok(value));
        }
        Entered::Load(lead) => lead,
    };
    let patience = lead.patience();
    let (Some((patience, stale)), Some(ticket)) = (patience, pass.ticket()) else {
        let outcome = lead.drive_caught(pin!(here(args))).await.map(K::split);
        let (returned, is_stale) = finish(lead, outcome, judge).await;
        if is_stale {
            pass.count_stale();
        }
        return K::join(returned);
    };
    let (waiting, gone) = oneshot::channel::<()>();
    let deadline = cache.core().options.load_deadline;
    // Once its caller has gone it is limited: nothing else would end it.
    let end = async move {
        let _ = gone.await;
        tokio::time::sleep(deadline).await;
    };
    let mut task = spawn(go_on::<K, R, J>(lead, ticket, away(args), judge, end));
    let in_time = tokio::time::timeout(patience, &mut task).await;
    let has_ended = in_time.is_ok();
    if let Some((returned, is_stale)) = in_time.ok().and_then(joined) {
        if is_stale {
            pass.count_stale();
        }
        return K::join(returned);
    }
    if let Some(hit) = pass.settle_for(patience, stale).await
        && let Ok(value) = hit.decode::<K::Value>()
    {
        pass.accept(&hit);
        return K::join(Ok(value));
    }
    let done = if has_ended { None } else { joined(task.await) };
    drop(waiting);
    match done {
        Some((returned, _)) => K::join(returned),
        // The runtime of the load has ended, and the args with it.
        None => pending().await,
    }
}

/// Renews a value in the background, if its claim is granted.
async fn renew<K, R, J>(cache: Cache, ask: Ask, hit: Hit, ticket: Ticket, work: Away<R>, judge: J)
where
    K: Kind<R>,
    K::Value: Serialize + DeserializeOwned,
    J: FnOnce(&K::Value) -> Fate,
{
    let end = tokio::time::sleep(cache.core().options.load_deadline);
    match Pass::new(&cache, ask, false).lead_ahead(&hit).await {
        Ok(lead) => drop(go_on::<K, R, J>(lead, ticket, work, judge, end).await),
        // The store refuses or doesn't answer: while the ticket is held, this process doesn't try again.
        Err(Sight::Dark | Sight::HandsOff) => {
            drop(work);
            tokio::time::sleep(cache.core().options.stale_backoff.min(cache.core().options.lease)).await;
            drop(ticket);
        }
        Err(_) => {}
    }
}

/// A load without a caller; nothing if it is given up at the end.
async fn go_on<K, R, J>(
    mut lead: Box<Lead>,
    ticket: Ticket,
    mut work: Away<R>,
    judge: J,
    end: impl Future<Output = ()>,
) -> Option<(Result<K::Value, K::Error>, bool)>
where
    K: Kind<R>,
    K::Value: Serialize + DeserializeOwned,
    J: FnOnce(&K::Value) -> Fate,
{
    let outcome = {
        let (mut driven, mut end) = (pin!(lead.drive_caught(work.as_mut())), pin!(end));
        poll_fn(|cx| {
            ticket.touch();
            match driven.as_mut().poll(cx) {
                Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
                Poll::Pending => end.as_mut().poll(cx).map(|()| None),
            }
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

/// Spawns with the cache that is the global one here, and in the span that is the current one.
fn spawn<F>(load: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(global::carry(load).in_current_span())
}

/// What a load gave that ran in a task of its own; nothing if its runtime has ended.
fn joined<T>(done: Result<Option<T>, JoinError>) -> Option<T> {
    match done.map_err(JoinError::try_into_panic) {
        Ok(returned) => returned,
        Err(Ok(panic)) => resume_unwind(panic),
        Err(Err(_)) => None,
    }
}
