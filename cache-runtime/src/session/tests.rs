use proptest::prelude::*;
use tokio::time::advance;

use super::*;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn only_what_was_exposed_is_parsed() {
    let text = SessionId::new([7; USER]).expose();
    assert_eq!(SessionId::parse(&text).expect("it is one").expose(), text);
    let standard = "+/".repeat(32);
    let wrong = ["", " ", &text[1..], &format!("{text}A"), &format!("{text}=="), &format!(" {}", &text[1..])];
    let others = [&standard, &"\u{e9}".repeat(32), &"\0".repeat(64), &"A".repeat(1 << 20), &"=".repeat(64)];
    for wrong in wrong.into_iter().chain(others.map(String::as_str)) {
        assert!(SessionId::parse(wrong).is_none(), "{wrong:.70}");
    }
}

#[test]
fn ids_show_nothing_and_are_never_the_same() {
    let ids: std::collections::BTreeSet<String> =
        (0..1000).map(|_| SessionId::new([7; USER]).expose()[22..].to_owned()).collect();
    assert_eq!(ids.len(), 1000);
    assert_eq!(format!("{:?}", SessionId::new([7; USER])), "SessionId(..)");
}

#[test]
fn users_and_names_can_not_be_forged() {
    let key =
        |name: &'static str, user: &str| SessionStore::<()>::new(ms(1), ms(1)).name(name).key(&locate(&user));
    assert!(key("web", "ada").starts_with("@session:web:") && !key("web", "ada").contains("ada"));
    assert_eq!(key("web", "ada").len(), "@session:web:".len() + 32);
    assert_ne!(key("web", "ada"), key("web", "bob"));
    assert!(key("a:*{b}", "ada").starts_with("@session:a%3A%2A%7Bb%7D:"));
}

/// What is asked of a store with two users.
#[derive(Debug, Clone)]
enum Step {
    Create {
        user: u8,
    },
    /// These of one of the ids that there ever were.
    Get(usize),
    Update(usize),
    Rotate(usize),
    Destroy(usize),
    DestroyAll {
        user: u8,
    },
    List {
        user: u8,
    },
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..2_u8).prop_map(|user| Step::Create { user }),
        6 => (0..20_usize).prop_map(Step::Get),
        2 => (0..20_usize).prop_map(Step::Update),
        2 => (0..20_usize).prop_map(Step::Rotate),
        1 => (0..20_usize).prop_map(Step::Destroy),
        1 => (0..2_u8).prop_map(|user| Step::DestroyAll { user }),
        1 => (0..2_u8).prop_map(|user| Step::List { user }),
        6 => (0..40_u64).prop_map(Step::Wait),
    ]
}

/// What a session is.
struct Model {
    user: u8,
    data: u64,
    made: u64,
    seen: u64,
    is_over: bool,
}

impl Model {
    fn is_alive(&self, now: u64) -> bool {
        !self.is_over && now < self.seen + IDLE && now < self.made + ABSOLUTE
    }
}

const IDLE: u64 = 30;
const ABSOLUTE: u64 = 100;

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// By a clock that stands still between the steps.
    #[test]
    fn a_store_does_what_the_model_does(steps in prop::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let cache = Cache::builder().build().unwrap();
            let store = SessionStore::new(ms(IDLE), ms(ABSOLUTE)).cache(&cache);
            let (mut now, mut ids, mut all) = (0, Vec::new(), Vec::<Model>::new());
            for (number, step) in (0_u64..).zip(steps) {
                let of = |at: usize| if all.is_empty() { usize::MAX } else { at % all.len() };
                let at = match step {
                    Step::Get(at) | Step::Update(at) | Step::Rotate(at) | Step::Destroy(at) => of(at),
                    _ => 0,
                };
                if at == usize::MAX {
                    continue;
                }
                let was_alive = all.get(at).is_some_and(|model| model.is_alive(now));
                match step {
                    Step::Create { user } => {
                        ids.push(store.create(user, &number).await.unwrap());
                        all.push(Model { user, data: number, made: now, seen: now, is_over: false });
                    }
                    Step::Get(_) => {
                        let session = store.get(&ids[at]).await.unwrap();
                        let model = &mut all[at];
                        let expected = was_alive.then(|| Session {
                            user: model.user.to_string(),
                            data: model.data,
                            age: ms(now - model.made),
                            idle: ms(now - model.seen),
                        });
                        prop_assert_eq!(session, expected);
                        model.seen = now;
                    }
                    Step::Update(_) => {
                        prop_assert_eq!(store.update(&ids[at], &number).await.unwrap(), was_alive);
                        all[at].data = number;
                        all[at].seen = now;
                    }
                    Step::Rotate(_) => {
                        let id = store.rotate(&ids[at]).await.unwrap();
                        prop_assert_eq!(id.is_some(), was_alive);
                        let old = &mut all[at];
                        old.is_over = true;
                        let Model { user, data, made, .. } = *old;
                        if let Some(id) = id {
                            ids.push(id);
                            all.push(Model { user, data, made, seen: now, is_over: false });
                        }
                    }
                    Step::Destroy(_) => {
                        prop_assert_eq!(store.destroy(&ids[at]).await.unwrap(), was_alive);
                        all[at].is_over = true;
                    }
                    Step::DestroyAll { user } => {
                        store.destroy_all(user).await.unwrap();
                        all.iter_mut().filter(|model| model.user == user).for_each(|model| model.is_over = true);
                    }
                    Step::List { user } => {
                        let listed = store.sessions_of(user).await.unwrap();
                        prop_assert!(listed.is_sorted_by_key(|session| std::cmp::Reverse(session.idle)));
                        let mut listed: Vec<u64> = listed.iter().map(|session| session.data).collect();
                        let alive = all.iter().filter(|model| model.user == user && model.is_alive(now));
                        let mut expected: Vec<u64> = alive.map(|model| model.data).collect();
                        listed.sort_unstable();
                        expected.sort_unstable();
                        prop_assert_eq!(listed, expected);
                    }
                    Step::Wait(millis) => {
                        advance(ms(millis)).await;
                        now += millis;
                    }
                }
                // What has ended once has ended for good.
                for model in &mut all {
                    model.is_over |= !model.is_alive(now);
                }
            }
            Ok(())
        })?;
    }
}
