use proptest::prelude::*;
use tokio::time::advance;

use super::*;

/// The limit up to which no calls are batched.
const EXACT: usize = 32;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn keys_can_not_be_forged_and_are_never_too_long() {
    let minute = Duration::from_secs(60);
    let api = RateLimiter::new(5, minute).name("api");
    assert_eq!(api.key(&"10.0.0.7"), "@rate:api:10.0.0.7");
    assert_eq!(api.key(&"a:b*{c} \n%"), "@rate:api:a%3Ab%2A%7Bc%7D%20%0A%25");
    assert_eq!(RateLimiter::new(5, minute).name("a:b").key(&1), "@rate:a%3Ab:1");
    assert_eq!(RateLimiter::new(5, minute).key(&1), "@rate::5:60s:1");
    let long = api.key(&"x".repeat(5000));
    assert_eq!(long.len(), "@rate:api::".len() + 64);
    assert_ne!(long, api.key(&"x".repeat(5001)));
    assert_ne!(long, api.key(&long.trim_start_matches("@rate:api:")));
}

/// What a sliding window is: every call that was allowed, by its time.
#[derive(Default)]
struct Model {
    allowed: Vec<u64>,
}

impl Model {
    /// How many were allowed within this time before `now`.
    fn within(&self, now: u64, span: u64) -> usize {
        self.allowed.iter().filter(|at| **at + span > now).count()
    }

    /// When the oldest of the last so many was allowed.
    fn nth_last(&self, n: usize) -> u64 {
        self.allowed[self.allowed.len() - n]
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Random limits and times, by a clock that stands still between the calls.
    #[test]
    fn it_does_what_a_sliding_window_does(
        max in prop_oneof![1..=EXACT, 33..200_usize],
        window in 1..5000_u64,
        bursts in prop::collection::vec((0..1500_u64, 0..60_usize), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let limiter = RateLimiter::new(u32::try_from(max).unwrap(), ms(window)).cache(&Cache::builder().build().unwrap());
            let (mut model, mut now) = (Model::default(), 0);
            let grain = if max <= EXACT { 0 } else { window.div_ceil(EXACT as u64) };
            for (pause, calls) in bursts {
                advance(ms(pause)).await;
                now += pause;
                for _ in 0..calls {
                    let (counted, at_most) = (model.within(now, window), model.within(now, window + grain));
                    match limiter.check("ada").await.unwrap() {
                        Decision::Allowed { remaining, reset_after } => {
                            prop_assert!(counted < max, "{counted} in a window of {window} ms");
                            model.allowed.push(now);
                            prop_assert!(max - (remaining as usize) > counted && max - (remaining as usize) <= at_most + 1);
                            prop_assert!(reset_after <= ms(window));
                            if grain == 0 {
                                let oldest = model.nth_last(counted + 1);
                                prop_assert_eq!(reset_after, ms(oldest + window - now));
                            }
                        }
                        Decision::Limited { retry_after } => {
                            prop_assert!(at_most >= max, "limited after {at_most}");
                            prop_assert!(!retry_after.is_zero() && retry_after <= ms(window));
                            if grain == 0 {
                                prop_assert_eq!(retry_after, ms(model.nth_last(max) + window - now));
                            }
                        }
                    }
                }
            }
            // However it stands: not a moment earlier than is told, and then indeed.
            while let Decision::Allowed { .. } = limiter.check("ada").await.unwrap() {}
            let Decision::Limited { retry_after } = limiter.check("ada").await.unwrap() else { unreachable!() };
            advance(retry_after.saturating_sub(Duration::from_micros(1))).await;
            prop_assert!(!limiter.check("ada").await.unwrap().is_allowed());
            advance(Duration::from_micros(1)).await;
            prop_assert!(limiter.check("ada").await.unwrap().is_allowed());
            Ok(())
        })?;
    }
}
