//! Passwords, as Argon2id hashes. A hash takes a core and 19 MiB for some ten milliseconds, on purpose: so it
//! is made beside the runtime, and a few at a time.

use std::sync::LazyLock;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::error::{Error, Result};

static AT_ONCE: Semaphore = Semaphore::const_new(4);

/// Of no password: what somebody is measured against who doesn't exist.
static NOBODY: LazyLock<String> = LazyLock::new(|| {
    let salt: [u8; 16] = *b"blog:nobody:here";
    let hash = Argon2::default().hash_password_with_salt(b"", &salt);
    hash.map(|hash| hash.to_string()).unwrap_or_default()
});

pub(crate) async fn hash(password: &str) -> Result<String> {
    if !(8..=200).contains(&password.chars().count()) {
        return Err(Error::Invalid("A password has 8 to 200 characters."));
    }
    let password = password.to_owned();
    aside(move || Ok(Argon2::default().hash_password(password.as_bytes())?.to_string())).await
}

/// Takes the same time whether there is such a hash or not.
pub(crate) async fn verify(password: &str, hash: Option<String>) -> Result<bool> {
    if password.chars().count() > 200 {
        return Ok(false);
    }
    let password = password.to_owned();
    aside(move || {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| NOBODY.clone());
        let hash = PasswordHash::new(&hash).map_err(argon2::password_hash::Error::from)?;
        Ok(Argon2::default().verify_password(password.as_bytes(), &hash).is_ok() && known)
    })
    .await
}

async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let turn = AT_ONCE.acquire().await.expect("it is never closed");
    let work = move || {
        let _turn = turn; // taken along: the work goes on if its caller goes away
        work()
    };
    spawn_blocking(work).await.expect("hashing doesn't panic")
}
