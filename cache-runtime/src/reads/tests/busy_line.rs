//! A line that all share: each request takes its time, and each value in it, one after the other.

use super::*;

const REQUEST: Duration = Duration::from_micros(20);
const VALUE: Duration = Duration::from_micros(5);

struct Line {
    reads: Reads<String, u64>,
    free: Mutex<Instant>,
    /// The keys of the largest flush.
    largest: AtomicU64,
}

impl Line {
    /// When the reply is here.
    fn send(&self, values: usize) -> Instant {
        self.largest.fetch_max(values as u64, SeqCst);
        let mut free = self.free.lock().unwrap();
        *free = Instant::now().max(*free) + REQUEST + VALUE * u32::try_from(values).unwrap();
        *free
    }

    async fn read(self: &Arc<Self>, key: u64) {
        let text = key.to_string();
        let alone = || -> Reply<'_, u64> {
            let end = self.send(1);
            Box::pin(async move {
                tokio::time::sleep_until(end).await;
                Ok(key)
            })
        };
        let send = || {
            let line = Arc::clone(self);
            move |keys: Vec<String>| -> Answers<u64> {
                let end = line.send(keys.len());
                Box::pin(async move {
                    tokio::time::sleep_until(end).await;
                    Ok(keys.iter().map(|key| Ok(key.parse().unwrap())).collect())
                })
            }
        };
        let _ = self.reads.get(&text, key, (BUDGET, BUDGET), || text.clone(), alone, send).await;
    }
}

/// What keeps flushes waiting are those who found no room in them.
#[tokio::test(start_paused = true)]
async fn a_room_that_is_too_small_for_all_who_come_grows() {
    let (reads, free) = (Reads::new(), Mutex::new(Instant::now()));
    let line = Arc::new(Line { reads, free, largest: AtomicU64::new(0) });
    let callers: JoinSet<_> = (0..1500)
        .map(|key| {
            let line = Arc::clone(&line);
            async move {
                for _ in 0..50 {
                    line.read(key).await;
                }
            }
        })
        .collect();
    callers.join_all().await;
    assert_eq!(line.largest.load(SeqCst), 512);
}
