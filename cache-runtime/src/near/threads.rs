//! Everything at once, on threads.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use super::tests::{instance, near};
use super::*;

const KEYS: usize = 6;

/// A store of one number per key, that only grows.
#[derive(Default)]
struct World {
    stored: [AtomicU64; KEYS],
    /// What no read that begins now may fall short of.
    floor: [AtomicU64; KEYS],
    stop: AtomicBool,
    /// One value of each is alive at any time.
    values: Arc<()>,
}

/// A value that shows when it is leaked.
#[derive(Clone)]
struct Value {
    number: u64,
    _alive: Arc<()>,
}

fn name(key: usize) -> String {
    format!("key:{key}")
}

impl World {
    fn until_stopped(&self, mut act: impl FnMut(&mut fastrand::Rng)) {
        let mut random = fastrand::Rng::new();
        while !self.stop.load(Ordering::Relaxed) {
            act(&mut random);
        }
    }

    fn fill(&self, near: &Arc<Near>, random: &mut fastrand::Rng) {
        let key = random.usize(..KEYS);
        let tags = Self::tags(key).map(|tag| near.ticket(&tag));
        let ticket = near.ticket(&name(key)).with_tags(tags.into());
        let number = self.stored[key].load(Ordering::SeqCst);
        if random.bool() {
            std::thread::yield_now();
        }
        for args in 0..random.u8(1..4) {
            let value = Value { number, _alive: Arc::clone(&self.values) };
            let life = random.bool().then_some(Duration::from_secs(60));
            ticket.keep(instance(), &[key.to_le_bytes()[0], args], &value, random.usize(..400), life);
        }
    }

    /// One that half of the keys have, and one that all have.
    fn tags(key: usize) -> [String; 2] {
        [format!("tag:{}", key % 2), "all".to_owned()]
    }

    fn read(&self, near: &Near, random: &mut fastrand::Rng) {
        let key = random.usize(..KEYS);
        let floor = self.floor[key].load(Ordering::SeqCst);
        let args = [key.to_le_bytes()[0], random.u8(..4)];
        if let Some(value) = near.get(instance(), &args, Value::clone) {
            assert!(value.number >= floor, "{} of key {key} after {floor}", value.number);
        }
    }

    /// Raises a number, and the floor once nothing may fall short of it any more.
    fn change(&self, keys: impl Iterator<Item = usize>, forget: impl FnOnce()) {
        let numbers: HashMap<usize, u64> =
            keys.map(|key| (key, self.stored[key].fetch_add(1, Ordering::SeqCst) + 1)).collect();
        forget();
        for (key, number) in numbers {
            self.floor[key].fetch_max(number, Ordering::SeqCst);
        }
    }
}

type Act<'a> = &'a (dyn Fn(&Arc<Near>, &World, &mut fastrand::Rng) + Sync);

/// Runs all of them for a while, a scan among them that keeps evicting.
fn run(bytes: u64, with: &[Act<'_>]) {
    let (near, world) = (near(bytes), World::default());
    let fill = |near: &Arc<Near>, world: &World, random: &mut _| world.fill(near, random);
    let read = |near: &Arc<Near>, world: &World, random: &mut _| world.read(near, random);
    let scan = |near: &Arc<Near>, _: &World, random: &mut fastrand::Rng| {
        let n = random.u64(..);
        near.ticket(&n.to_string()).keep(instance(), &n.to_le_bytes(), &n, 8, None);
    };
    let forget = |near: &Arc<Near>, world: &World, random: &mut fastrand::Rng| {
        let key = random.usize(..KEYS);
        world.change([key].into_iter(), || near.forget(name(key).as_bytes()));
    };
    let common: [Act<'_>; 6] = [&fill, &fill, &read, &read, &scan, &forget];
    std::thread::scope(|scope| {
        for act in common.iter().chain(with) {
            let (near, world) = (&near, &world);
            scope.spawn(move || {
                // Whoever fails stops the others.
                let _stop = Stop(&world.stop);
                world.until_stopped(|random| act(near, world, random));
            });
        }
        std::thread::sleep(Duration::from_millis(700));
        world.stop.store(true, Ordering::Relaxed);
    });
    near.check(0);
    assert!(near.map.weight() <= bytes);
    near.forget_all();
    near.check(0);
    assert_eq!(near.register.desks().map(|desk| desk.len()).sum::<usize>(), 0);
    assert_eq!(Arc::strong_count(&world.values), 1);
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn no_value_outlives_its_forgetting() {
    run(8 * (OVERHEAD + 200), &[]);
}

#[test]
fn nor_that_of_all_keys_or_of_some() {
    let all = |near: &Arc<Near>, world: &World, _: &mut fastrand::Rng| {
        world.change(0..KEYS, || near.forget_all());
    };
    let some = |near: &Arc<Near>, world: &World, _: &mut fastrand::Rng| {
        let keys = (0..KEYS).filter(|key| key % 2 == 0);
        world.change(keys, || near.forget_matching(|key| key.last().is_some_and(|n| n % 2 == 0)));
    };
    run(1 << 20, &[&all, &some]);
}

#[test]
fn nor_that_of_a_tag_that_it_has() {
    let half = |near: &Arc<Near>, world: &World, random: &mut fastrand::Rng| {
        let half = random.usize(..2);
        let keys = (0..KEYS).filter(|key| key % 2 == half);
        world.change(keys, || near.forget(format!("tag:{half}").as_bytes()));
    };
    let all = |near: &Arc<Near>, world: &World, _: &mut fastrand::Rng| {
        world.change(0..KEYS, || near.forget(b"all"));
    };
    run(1 << 20, &[&half, &all]);
    run(8 * (OVERHEAD + 300), &[&half]);
}

#[test]
fn nor_the_connection_that_told_of_it() {
    // A change while there is no connection is not told at all.
    let line = Mutex::new(None);
    let reconnect = |near: &Arc<Near>, world: &World, _: &mut fastrand::Rng| {
        let mut line = line.lock().unwrap();
        let now = Coarse::now();
        let current = line.take().unwrap_or_else(|| near.connected(now));
        near.disconnected(current);
        world.change(0..KEYS, || ());
        let next = near.connected(Coarse::now());
        near.alive(next, Coarse::now());
        *line = Some(next);
    };
    run(1 << 20, &[&reconnect]);
}
