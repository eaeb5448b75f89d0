//! A line on which each value takes its time, so that a flush takes as long as all of its values.

use super::*;

struct Line {
    reads: Reads<String, u64>,
    /// How long one value takes, in microseconds, and the keys of the largest flush since this was last asked.
    micros: AtomicU64,
    largest: AtomicU64,
}

impl Line {
    async fn read(self: Arc<Self>, key: u64) -> Got {
        let text = key.to_string();
        let one = || Duration::from_micros(self.micros.load(SeqCst));
        let alone = || -> Reply<'_, u64> {
            let one = one();
            Box::pin(async move {
                tokio::time::sleep(one).await;
                Ok(key)
            })
        };
        let send = || {
            let line = Arc::clone(&self);
            move |keys: Vec<String>| -> Answers<u64> {
                line.largest.fetch_max(keys.len() as u64, SeqCst);
                let all =
                    Duration::from_micros(line.micros.load(SeqCst)) * u32::try_from(keys.len()).unwrap();
                Box::pin(async move {
                    tokio::time::sleep(all).await;
                    Ok(keys.iter().map(|key| Ok(key.parse().unwrap())).collect())
                })
            }
        };
        self.reads.get(&text, key, (BUDGET, BUDGET), || text.clone(), alone, send).await
    }

    /// A thousand keys at once: how many of them were late, and the keys of the largest flush.
    async fn rush(self: &Arc<Self>) -> (usize, u64) {
        self.largest.store(0, SeqCst);
        let calls: JoinSet<_> = (0..1000).map(|key| Arc::clone(self).read(key)).collect();
        let got = calls.join_all().await;
        (got.iter().filter(|got| got.is_err()).count(), self.largest.load(SeqCst))
    }
}

#[tokio::test(start_paused = true)]
async fn a_flush_has_as_many_keys_as_come_in_good_time() {
    let (reads, [micros, largest]) = (Reads::new(), [10, 0].map(AtomicU64::new));
    let line = Arc::new(Line { reads, micros, largest });
    let mut rushes = Vec::new();
    for _ in 0..5 {
        rushes.push(line.rush().await);
    }
    assert_eq!(rushes, [(0, 64), (0, 128), (0, 256), (0, 512), (0, 512)]);
    // Half a second for as many: they are late, all of them, and fewer the next time.
    line.micros.store(1000, SeqCst);
    rushes.clear();
    for _ in 0..6 {
        rushes.push(line.rush().await);
    }
    assert_eq!(rushes, [(512, 512), (256, 256), (128, 128), (0, 64), (0, 32), (0, 48)]);
    line.micros.store(10, SeqCst);
    assert_eq!([line.rush().await, line.rush().await], [(0, 64), (0, 128)]);
}
