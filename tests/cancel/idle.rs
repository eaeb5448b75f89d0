//! Calls that are alive and not polled, as combinators of futures leave them.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;

use tokio::time::{Instant, sleep, timeout};

use crate::callers::{Caches, Call, HANGS, How, Key, LEASE, call};
use crate::support::server::Server;
use crate::support::{ms, secs};

/// As `StreamExt::buffered(2)`: two calls under way, which are polled only while the next is asked for.
#[derive(Default)]
struct Buffered {
    calls: VecDeque<Call>,
    running: VecDeque<Option<Call>>,
}

impl Buffered {
    /// The next one ended; false if there is none.
    async fn next(&mut self) -> bool {
        poll_fn(|cx| {
            while self.running.len() < 2
                && let Some(call) = self.calls.pop_front()
            {
                self.running.push_back(Some(call));
            }
            for running in &mut self.running {
                running.take_if(|call| call.as_mut().poll(cx).is_ready());
            }
            match self.running.front() {
                Some(Some(_)) => Poll::Pending,
                Some(None) => {
                    self.running.pop_front();
                    Poll::Ready(true)
                }
                None => Poll::Ready(false),
            }
        })
        .await
    }
}

/// A stream's loop body asks for what the stream is loading: its leader is this very task, and idle.
#[tokio::test]
async fn a_buffer_that_is_not_polled_holds_nobody_up() {
    let server = Server::redis().start();
    for caches in [Caches::embedded(), Caches::over(&server, LEASE).await] {
        let keys: [_; 5] = std::array::from_fn(|_| Key::new());
        let mut buffered = Buffered::default();
        for key in &keys {
            // The first is quick, and leaves the second in the middle of its load; and so on.
            for how in [How::Ok, How::Slow, How::Err] {
                buffered.calls.push_back(call(&caches.here, key, how, false));
            }
        }
        for cache in [&caches.here, &caches.elsewhere].into_iter().cycle() {
            if !buffered.next().await {
                break;
            }
            let begun = Instant::now();
            for key in &keys {
                timeout(HANGS, call(cache, key, How::Ok, false)).await.expect("the loop's body hangs");
            }
            assert!(begun.elapsed() < 2 * LEASE + caches.slack + secs(1), "{:?}", begun.elapsed());
        }
    }
}

/// The same with `select!`: its other arm asks for what the first is loading.
#[tokio::test]
async fn the_other_arm_of_a_select_is_not_held_up() {
    let server = Server::redis().start();
    for caches in [Caches::embedded(), Caches::over(&server, LEASE).await] {
        for cache in [&caches.here, &caches.elsewhere] {
            let key = Key::new();
            let mut slow = call(&caches.here, &key, How::Slow, false);
            let begun = Instant::now();
            loop {
                tokio::select! {
                    () = &mut slow => break,
                    () = sleep(ms(20)) => {
                        timeout(HANGS, call(cache, &key, How::Ok, false)).await.expect("the other arm hangs");
                    }
                }
            }
            assert!(begun.elapsed() < 2 * LEASE + caches.slack + secs(1), "{:?}", begun.elapsed());
            assert!(key.begun() <= 2, "the one that took over filled");
        }
    }
}
