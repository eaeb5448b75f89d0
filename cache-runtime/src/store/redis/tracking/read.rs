//! Reads for who keeps what they bring.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use redis::{Pipeline, RedisError, RedisResult, Value};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::Route;
use crate::error::StoreError;
use crate::store::redis::fault::{self, Reaction};
use crate::store::redis::link::Link;
use crate::store::redis::tracker::Tracker;

impl Link {
    /// As [`ask_many`](Self::ask_many), for who keeps the answer; and whether it may be kept.
    ///
    /// Who gives it up because its time is up need not say so.
    pub(in crate::store::redis) async fn ask_tracked<const N: usize>(
        self: &Arc<Self>,
        commands: &Pipeline,
    ) -> Result<([Result<Value, StoreError>; N], bool), StoreError> {
        let (replies, may_keep) = self.ask_tracked_all(commands).await?;
        Ok((self.expect(replies.try_into().ok())?, may_keep))
    }

    /// The same, for so many commands as there are.
    pub(in crate::store::redis) async fn ask_tracked_all(
        self: &Arc<Self>,
        commands: &Pipeline,
    ) -> Result<(Vec<Result<Value, StoreError>>, bool), StoreError> {
        // Without a main connection invalidations may wait. What happens between this look and the reading
        // the keeper hears of, after it made its ticket: that the key changed, or `disconnected`.
        let route = match self.epoch() {
            Some(main) => self.tracking.route(main),
            None => Route::Main { may_keep: false },
        };
        let may_keep = match route {
            Route::Tracked { mut connection, number } => {
                let question = Question::new(self, Some(number));
                let replies = connection.send_packed_commands(commands, 0, commands.len()).await;
                question.answered();
                if let Some(replies) = self.accept(replies, number) {
                    return Ok((replies, self.tracking.is_up(number)));
                }
                false
            }
            Route::Main { may_keep } => may_keep,
            Route::Hire { number, main } => {
                // Not under a lock: a runtime that is ending drops the task right here.
                Handle::current().spawn(Tracker::new(Arc::clone(self), number, main).run());
                false
            }
        };
        let question = Question::new(self, None);
        let replies = self.ask_all(commands).await;
        question.answered();
        Ok((replies?, may_keep))
    }

    /// The replies, unless the main connection had better be asked.
    fn accept(
        &self,
        replies: RedisResult<Vec<Value>>,
        number: u64,
    ) -> Option<Vec<Result<Value, StoreError>>> {
        let mut is_final = true;
        let mut read = |error: RedisError| {
            let (error, reaction) = fault::read(&error);
            match reaction {
                Reaction::Replace => self.tracking.end(Some(number), &error.to_string()),
                Reaction::Shout => self.shout(&error),
                Reaction::Keep | Reaction::Again => {}
            }
            is_final &= matches!(reaction, Reaction::Keep | Reaction::Shout);
            error
        };
        let replies = match replies {
            Ok(replies) => {
                replies.into_iter().map(|reply| reply.extract_error().map_err(&mut read)).collect()
            }
            Err(error) => {
                read(error);
                return None;
            }
        };
        is_final.then_some(replies)
    }
}

/// One read, which its caller may give up. While nobody says anything on this connection the main one
/// may be quite well, and the other way round: so each has a breaker of its own.
struct Question<'a> {
    link: &'a Link,
    /// The tracked connection that is asked; else it is the main one.
    number: Option<u64>,
    begun: Instant,
    is_answered: bool,
}

impl<'a> Question<'a> {
    fn new(link: &'a Link, number: Option<u64>) -> Self {
        Self { link, number, begun: Instant::now(), is_answered: false }
    }

    fn answered(mut self) {
        self.is_answered = true;
        if self.number.is_some() {
            self.link.tracking.unanswered.store(0, Relaxed);
        }
    }
}

impl Drop for Question<'_> {
    /// Its time was up; or its caller went away for reasons of his own, mostly sooner.
    fn drop(&mut self) {
        let Self { link, number, begun, is_answered } = *self;
        let tracking = &link.tracking;
        if is_answered || begun.elapsed() < tracking.options.budget / 2 {
            return;
        }
        match number {
            None => link.overdue(),
            Some(number) => {
                if tracking.unanswered.fetch_add(1, Relaxed) + 1 >= tracking.options.breaker {
                    tracking.end(Some(number), "it doesn't answer");
                }
            }
        }
    }
}
