//! Who is logged in.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;

use crate::cache::Cache;
use crate::codec;
use crate::error::CacheError;
use crate::global::{self, CacheRef};
use crate::key;
use crate::recovery::Target;
use crate::store::escape_literal;
use crate::store::sessions::{Act, Digest, Found, Lives};

/// Where the sessions of a user are, and which one it is: 256 bits from the operating system, which nobody
/// can guess.
///
/// Whoever has its text is logged in. So it has no `Display`, its `Debug` doesn't show it, and the store
/// knows its hash only: what was stolen from the store logs nobody in.
#[derive(Clone)]
pub struct SessionId {
    user: [u8; USER],
    secret: [u8; SECRET],
}

const USER: usize = 16;
const SECRET: usize = 32;
/// In base64, which takes four characters for three bytes.
const TEXT: usize = (USER + SECRET) / 3 * 4;

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(..)")
    }
}

impl SessionId {
    fn new(user: [u8; USER]) -> Self {
        let mut secret = [0; SECRET];
        getrandom::fill(&mut secret).expect("the operating system has random bytes");
        Self { user, secret }
    }

    /// The id of this text, as [`expose`](Self::expose) gave it; nothing if it can't be one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; USER + SECRET];
        if text.len() != TEXT || URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()? != bytes.len() {
            return None;
        }
        let (user, secret) = bytes.split_first_chunk()?;
        Some(Self { user: *user, secret: secret.try_into().ok()? })
    }

    /// Its text, for the cookie and nothing else: 64 characters of `A-Za-z0-9-_`.
    pub fn expose(&self) -> String {
        URL_SAFE_NO_PAD.encode([&self.user[..], &self.secret].concat())
    }

    fn digest(&self) -> Digest {
        blake3::derive_key("cache-aside session id", &self.secret)
    }
}

/// A session that is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Session<T> {
    /// Whose it is, as it was [created](SessionStore::create) for.
    pub user: String,
    /// What was stored in it.
    pub data: T,
    /// How long ago it was created.
    pub age: Duration,
    /// How long it wasn't asked for, until this was.
    pub idle: Duration,
}

/// Sessions of users who have logged in, each with a `T`, in the store of a cache.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cache_runtime::CacheError> {
/// use std::time::Duration;
/// use cache_runtime::{SessionId, SessionStore};
///
/// const HOUR: Duration = Duration::from_secs(3600);
/// /// Ends after an hour without a request, and twelve hours after the log-in in any case.
/// static SESSIONS: SessionStore<u32> = SessionStore::new(HOUR, HOUR.saturating_mul(12));
///
/// // She has proved who she is.
/// let cookie = SESSIONS.create("ada", &0).await?.expose();
///
/// // With each request.
/// let id = SessionId::parse(&cookie).expect("it wasn't changed");
/// let session = SESSIONS.get(&id).await?.expect("it is alive");
/// assert_eq!((session.user.as_str(), session.data), ("ada", 0));
/// SESSIONS.update(&id, &(session.data + 1)).await?;
///
/// // She logs out, or changes her password.
/// SESSIONS.destroy(&id).await?;
/// SESSIONS.destroy_all("ada").await?;
/// assert_eq!(SESSIONS.get(&id).await?, None);
/// # Ok(()) }
/// ```
///
/// A user is whatever tells users apart: its `Display` is the name under which
/// [`destroy_all`](Self::destroy_all) and [`sessions_of`](Self::sessions_of) find them. One may have a
/// hundred at the same time; one more ends the one that wasn't seen for the longest time.
///
/// All sessions of a user are under one key. So every method is one round trip, and one step that happens
/// or doesn't, in a cluster too; and a store that loses the key ends the sessions, never the other way
/// round. Times are by the server's clock.
///
/// Every method fails as those of [`Cache`] do: then nobody knows who it is, so nobody is logged in. One that
/// is dropped may have been carried out.
pub struct SessionStore<T> {
    idle: Duration,
    absolute: Duration,
    name: Cow<'static, str>,
    cache: Option<Cache>,
    data: PhantomData<fn(T) -> T>,
}

impl<T> fmt::Debug for SessionStore<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { idle, absolute, name, cache, .. } = self;
        let mut store = f.debug_struct("SessionStore");
        store
            .field("idle", idle)
            .field("absolute", absolute)
            .field("name", name)
            .field("cache", cache)
            .finish()
    }
}

impl<T> Clone for SessionStore<T> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), cache: self.cache.clone(), ..*self }
    }
}

impl<T> SessionStore<T> {
    /// A session ends when it wasn't asked for for so long as `idle`, and so long as `absolute` after it was
    /// created in any case. Both are at least a millisecond.
    pub const fn new(idle: Duration, absolute: Duration) -> Self {
        Self { idle, absolute, name: Cow::Borrowed(""), cache: None, data: PhantomData }
    }

    /// Which sessions: an id of one name is nothing to another, and a user has others.
    #[must_use]
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = name.into();
        self
    }

    /// In this cache instead of the global one.
    #[must_use]
    pub fn cache(mut self, cache: &Cache) -> Self {
        self.cache = Some(cache.clone());
        self
    }

    /// Gives the session another id; the old one is dead at once, in the same step. Nothing if it isn't
    /// alive. It keeps its age.
    ///
    /// For when somebody's rights grow, by a second factor for one: who knew the id before doesn't get them.
    ///
    /// # Errors
    /// As [`SessionStore`] says. Then it may have been done, and nobody knows the new id: the user has to
    /// log in again.
    pub async fn rotate(&self, id: &SessionId) -> Result<Option<SessionId>, CacheError> {
        let new = SessionId::new(id.user);
        let found = self.act(&id.user, Act::Rotate { old: id.digest(), new: new.digest() }).await?;
        Ok((!found.is_empty()).then_some(new))
    }

    /// Ends the session; whether it was alive.
    ///
    /// # Errors
    /// As [`SessionStore`] says. Then it may live on until it is idle for long enough.
    pub async fn destroy(&self, id: &SessionId) -> Result<bool, CacheError> {
        Ok(!self.act(&id.user, Act::Destroy { id: id.digest() }).await?.is_empty())
    }

    /// Ends all sessions of the user.
    ///
    /// # Errors
    /// As [`SessionStore`] says. If the store can't be reached it is kept, and done when it can, as
    /// invalidations are.
    pub async fn destroy_all(&self, user: impl Display) -> Result<(), CacheError> {
        let cache = self.given()?;
        let core = cache.core();
        let key = core.full(self.key(&locate(&user)))?;
        match core.timed(core.store.remove(&key)).await {
            Ok(_) => Ok(()),
            Err(error) => {
                let all = core.full_glob(&format!("{}*", escape_literal(&self.prefix())));
                core.keep(Target::Key(key), Some(all));
                Err(error.into())
            }
        }
    }

    async fn act(&self, user: &[u8; USER], act: Act) -> Result<Vec<Found>, CacheError> {
        let cache = self.given()?;
        let core = cache.core();
        let key = core.full(self.key(user))?;
        Ok(core.timed(core.store.sessions(&key, act, Lives::new(self.idle, self.absolute))).await?)
    }

    fn given(&self) -> Result<CacheRef, CacheError> {
        global::or_given(self.cache.as_ref())
    }

    fn prefix(&self) -> String {
        format!("@session:{}:", key::render(&self.name))
    }

    fn key(&self, user: &[u8; USER]) -> String {
        format!("{}{:032x}", self.prefix(), u128::from_be_bytes(*user))
    }
}

impl<T: Serialize + DeserializeOwned> SessionStore<T> {
    /// A new session of this user. To be called when somebody has proved who they are; a session that they
    /// had before should be [destroyed](Self::destroy).
    ///
    /// # Errors
    /// As [`SessionStore`] says; [`CacheError::Serialize`] and [`CacheError::ValueTooLarge`] for `data`.
    ///
    /// # Panics
    /// If the operating system has no random bytes.
    pub async fn create(&self, user: impl Display, data: &T) -> Result<SessionId, CacheError> {
        let id = SessionId::new(locate(&user));
        // Its first line: JSON has no line feed of its own.
        let mut line = self.encode(&user.to_string())?;
        line.push(b'\n');
        line.extend(self.encode(data)?);
        self.act(&id.user, Act::Create { id: id.digest(), data: line.into() }).await?;
        Ok(id)
    }

    /// The session of this id, if it is alive; its idle time begins anew.
    ///
    /// What doesn't decode as `T`, after a deployment say, counts as dead, and that is logged.
    ///
    /// # Errors
    /// As [`SessionStore`] says.
    pub async fn get(&self, id: &SessionId) -> Result<Option<Session<T>>, CacheError> {
        let found = self.act(&id.user, Act::Open { id: id.digest() }).await?;
        Ok(found.into_iter().next().and_then(|found| self.decode(&found)))
    }

    /// Stores other data in the session, and renews it; whether it is alive. Of two at the same time the
    /// last one stays.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub async fn update(&self, id: &SessionId, data: &T) -> Result<bool, CacheError> {
        let data = self.encode(data)?.into();
        Ok(!self.act(&id.user, Act::Update { id: id.digest(), data }).await?.is_empty())
    }

    /// All sessions of the user that are alive, those first that weren't seen for the longest time. It renews
    /// none, and tells no ids, which nobody knows any more.
    ///
    /// # Errors
    /// As [`SessionStore`] says.
    pub async fn sessions_of(&self, user: impl Display) -> Result<Vec<Session<T>>, CacheError> {
        let mut found = self.act(&locate(&user), Act::List).await?;
        found.sort_by_key(|found| std::cmp::Reverse(found.idle));
        Ok(found.iter().filter_map(|found| self.decode(found)).collect())
    }

    fn encode(&self, value: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, CacheError> {
        codec::to_json(value, self.given()?.core().options.max_value).map(Into::into)
    }

    fn decode(&self, found: &Found) -> Option<Session<T>> {
        let Found { age, idle, ref data } = *found;
        let decoded = data.iter().position(|byte| *byte == b'\n').and_then(|end| {
            let (user, data) = (&data[..end], &data[end + 1..]);
            Some((serde_json::from_slice(user).ok()?, serde_json::from_slice(data).ok()?))
        });
        if decoded.is_none() {
            warn!(target: "cache_aside", name = &*self.name, "a session doesn't decode: it counts as dead");
        }
        decoded.map(|(user, data)| Session { user, data, age, idle })
    }
}

/// Where the sessions of a user are.
fn locate(user: &dyn Display) -> [u8; USER] {
    let hash = blake3::derive_key("cache-aside session user", user.to_string().as_bytes());
    *hash.first_chunk().expect("16 of 32 bytes")
}

#[cfg(test)]
mod tests;
