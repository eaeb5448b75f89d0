//! Every sentinel is listened to, and asked once a second: so a failover is known at once as a rule, and
//! within two seconds if the word of it was lost. Every one, because only the one that carries a failover out
//! tells of its steps, and the others hear of its end later.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, RedisResult, Value};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::Sentinel;
use super::ask::{knock, place_of, text};
use crate::store::redis::address::Address;
use crate::store::redis::fault;
use crate::store::redis::link::Link;
use crate::store::redis::scan::within;
use crate::store::redis::supervisor::SETUP;

/// How often it is asked.
const BEAT: Duration = Duration::from_secs(1);
/// The first pause after a sentinel was lost, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
const SWITCH: &str = "+switch-master";
/// Said by the one that carries the failover out, when it tells the replica.
const PROMOTION: &str = "+failover-state-send-slaveof-noone";

/// Listens for as long as it is polled.
pub(in crate::store::redis) async fn listen(link: Arc<Link>, sentinel: Arc<Sentinel>) {
    let (mut listeners, mut attended) = (JoinSet::new(), Vec::new());
    loop {
        for place in sentinel.sentinels() {
            let node = place.node().map(|(host, port)| (host.to_owned(), port));
            if !attended.contains(&node) {
                attended.push(node);
                listeners.spawn(listen_to(Arc::clone(&link), Arc::clone(&sentinel), place));
            }
        }
        // They may learn of others.
        sleep(BEAT).await;
    }
}

async fn listen_to(link: Arc<Link>, sentinel: Arc<Sentinel>, place: Address) {
    let mut pause = PAUSE.0;
    loop {
        match attend(&link, &sentinel, &place).await {
            Ok(()) => pause = PAUSE.0,
            Err(error) => {
                let problem = fault::read(&error).0;
                debug!(target: "cache_aside", sentinel = place.shown(), %problem, "it can't be listened to");
            }
        }
        sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// Listens to this one until it is lost. An error: it never was there.
async fn attend(link: &Arc<Link>, sentinel: &Arc<Sentinel>, place: &Address) -> RedisResult<()> {
    let rung = Arc::new(Notify::new());
    let mut connection = connect(link, sentinel, place, &rung).await?;
    // What was told before it was listened to.
    sentinel.ask_again(&mut connection).await?;
    sentinel.check(link);
    // Who may not ask that knows those of the URL.
    let _ = sentinel.ask_for_others(place, &mut connection).await;
    loop {
        // Woken: by the word of a failover, or by the end of the connection, which the next question finds.
        let _ = timeout(BEAT, rung.notified()).await;
        if sentinel.ask_again(&mut connection).await.is_err() {
            return Ok(());
        }
        sentinel.check(link);
    }
}

/// A connection on which failovers are told of, as far as this sentinel speaks RESP3.
async fn connect(
    link: &Arc<Link>,
    sentinel: &Arc<Sentinel>,
    place: &Address,
    rung: &Arc<Notify>,
) -> RedisResult<MultiplexedConnection> {
    let deaf = || knock(place, None::<mpsc::UnboundedSender<PushInfo>>);
    if !place.resp3(true) {
        return deaf().await;
    }
    let mut connection = match knock(place, Some(on_push(link, sentinel, rung))).await {
        Err(error) if fault::lacks_resp3(&error) => return deaf().await,
        other => other?,
    };
    within(SETUP, connection.subscribe(&[SWITCH, PROMOTION])).await?;
    Ok(connection)
}

fn on_push(
    link: &Arc<Link>,
    sentinel: &Arc<Sentinel>,
    rung: &Arc<Notify>,
) -> impl Fn(PushInfo) -> Result<(), Infallible> + use<> {
    let (link, sentinel, rung) = (Arc::downgrade(link), Arc::downgrade(sentinel), Arc::clone(rung));
    move |push| {
        match (push.kind, link.upgrade().zip(sentinel.upgrade())) {
            (PushKind::Message, Some((link, sentinel))) => {
                match word_of(&push.data, &sentinel.service) {
                    Some(Word::Promotion) => sentinel.promoting(&link),
                    Some(Word::Switch(host, port)) => {
                        sentinel.switched(&host, port);
                        sentinel.check(&link);
                        sentinel.news.notify_one();
                    }
                    None => {}
                }
                rung.notify_one();
            }
            (PushKind::Disconnection, _) => rung.notify_one(),
            _ => {}
        }
        Ok(())
    }
}

/// What a sentinel tells of.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    /// A replica is promoted now.
    Promotion,
    /// The primary is there from now on.
    Switch(String, u16),
}

/// `name old-host old-port new-host new-port`, and `slave name host port @ name host port`. The name of the
/// service may have spaces.
fn word_of(data: &[Value], service: &str) -> Option<Word> {
    let [channel, message] = data else { return None };
    let message = text(message)?;
    match text(channel)?.as_str() {
        SWITCH => {
            let mut words = message.strip_prefix(service)?.strip_prefix(' ')?.split(' ');
            let (host, port) = (words.nth(2)?.to_owned(), words.next()?.to_owned());
            place_of(Some(host), Some(port)).map(|(host, port)| Word::Switch(host, port))
        }
        PROMOTION => {
            let (_, about) = message.split_once(" @ ")?;
            about.strip_prefix(service)?.starts_with(' ').then_some(Word::Promotion)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_about_this_service_is_heard() {
        let told = |channel: &str, message: &str| {
            let data = [channel, message].map(|text| Value::BulkString(text.into()));
            word_of(&data, "main")
        };
        let switch = Word::Switch("10.0.0.2".to_owned(), 6380);
        assert_eq!(told(SWITCH, "main 10.0.0.1 6379 10.0.0.2 6380"), Some(switch));
        let promoted = "slave 10.0.0.2:6380 10.0.0.2 6380 @ main 10.0.0.1 6379";
        assert_eq!(told(PROMOTION, promoted), Some(Word::Promotion));
        for other in ["main2 10.0.0.1 6379 10.0.0.2 6380", "main 10.0.0.1 6379", "main a 1 b x", ""] {
            assert_eq!(told(SWITCH, other), None, "{other}");
        }
        for other in ["slave 10.0.0.2:6380 10.0.0.2 6380 @ main2 10.0.0.1 6379", "master main 10.0.0.1 6379"]
        {
            assert_eq!(told(PROMOTION, other), None, "{other}");
        }
        assert_eq!(told("+sdown", promoted), None);
    }
}
