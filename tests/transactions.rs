//! Transactions of a real database: readers during and after it, commit, rollback and errors, and no
//! stale value once the invalidations are applied (SPEC 2.4).

mod support;

use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::time::Duration;

use cache_aside::{Cache, cache, cache_invalidate, deferred};
use sqlx::sqlite::{
    Sqlite, SqliteConnectOptions, SqliteExecutor, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
};
use sqlx::{Connection, SqliteConnection};
use support::fleet::Folder;
use support::secs;
use support::server::Server;
use tokio::sync::{Notify, oneshot};

type Transaction = sqlx::Transaction<'static, Sqlite>;

/// Two accounts, and two processes' caches in front of them (one, if it is embedded).
struct Bank {
    pool: SqlitePool,
    cache: Cache,
    other: Cache,
    _server: Option<Server>,
    _folder: Folder,
}

async fn banks() -> [Bank; 2] {
    let server = Server::redis().start();
    let builder = Cache::builder().store_budget(secs(3));
    let remote = || builder.clone().redis(server.url()).build().unwrap();
    let embedded = builder.clone().build().unwrap();
    let caches = [[embedded.clone(), embedded], [remote(), remote()]];
    let mut servers = [None, Some(server)].into_iter();
    let mut banks = Vec::new();
    for [cache, other] in caches {
        let folder = Folder::new();
        let options = SqliteConnectOptions::new()
            .filename(folder.path().join("bank.db"))
            .create_if_missing(true)
            // Who reads isn't kept waiting by who writes, and sees what is committed.
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(secs(30));
        let pool = SqlitePoolOptions::new().max_connections(8).connect_with(options).await.unwrap();
        sqlx::raw_sql(
            "CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL CHECK (balance >= 0));
             INSERT INTO account VALUES (1, 100), (2, 100)",
        )
        .execute(&pool)
        .await
        .unwrap();
        banks.push(Bank { pool, cache, other, _server: servers.next().flatten(), _folder: folder });
    }
    banks.try_into().unwrap_or_else(|_| unreachable!())
}

/// Which connection asks is no part of the key.
#[cache(ttl = 600, skip(cache, db), cache = cache)]
async fn balance(cache: &Cache, db: impl SqliteExecutor<'_>, id: i64) -> sqlx::Result<i64> {
    read(db, id).await
}

#[cache(ttl = 600, near = true, key = "near:balance:{id}", cache = cache)]
async fn near_balance(cache: &Cache, db: impl SqliteExecutor<'_>, id: i64) -> sqlx::Result<i64> {
    read(db, id).await
}

/// As [`balance`], and waits after it has read.
#[cache(ttl = 600, key = "slow:balance:{id}", cache = cache)]
async fn slow_balance(
    cache: &Cache,
    pool: &SqlitePool,
    id: i64,
    has_read: &Notify,
    go_on: oneshot::Receiver<()>,
) -> sqlx::Result<i64> {
    let balance = read(pool, id).await?;
    has_read.notify_one();
    let _ = go_on.await;
    Ok(balance)
}

async fn read(db: impl SqliteExecutor<'_>, id: i64) -> sqlx::Result<i64> {
    sqlx::query_scalar("SELECT balance FROM account WHERE id = ?").bind(id).fetch_one(db).await
}

#[cache_invalidate("near:balance:{id}", "slow:balance:{id}", cache = cache)]
async fn add(cache: &Cache, db: &mut SqliteConnection, id: i64, amount: i64) -> sqlx::Result<i64> {
    let balance =
        sqlx::query_scalar("UPDATE account SET balance = balance + ? WHERE id = ? RETURNING balance")
            .bind(amount)
            .bind(id)
            .fetch_one(db)
            .await?;
    // The key of a hashed function can't be written.
    let _ = balance::clear_cache(cache, id).await;
    Ok(balance)
}

/// What is checked on the way, for the error in the middle.
async fn transfer(
    cache: &Cache,
    db: &mut SqliteConnection,
    from: i64,
    to: i64,
    amount: i64,
) -> sqlx::Result<()> {
    add(cache, db, to, amount).await?;
    add(cache, db, from, -amount).await?;
    Ok(())
}

impl Bank {
    /// A transaction that writes, with what it invalidates.
    async fn begin(&self) -> Transaction {
        self.pool.begin_with("BEGIN IMMEDIATE").await.unwrap()
    }

    /// What readers of both processes see.
    async fn seen(&self, id: i64) -> [i64; 4] {
        let Self { pool, cache, other, .. } = self;
        [
            balance(cache, pool, id).await.unwrap(),
            near_balance(cache, pool, id).await.unwrap(),
            balance(other, pool, id).await.unwrap(),
            near_balance(other, pool, id).await.unwrap(),
        ]
    }
}

#[tokio::test]
async fn others_see_a_transaction_after_its_commit_and_it_sees_itself() {
    for bank in banks().await {
        let Bank { pool, cache, other, .. } = &bank;
        assert_eq!(bank.seen(1).await, [100; 4]);
        let mut tx = bank.begin().await;
        let (done, invalidations) = deferred(async {
            transfer(cache, &mut tx, 1, 2, 30).await?;
            assert_eq!(balance(cache, &mut *tx, 1).await?, 70, "its own write");
            assert_eq!(near_balance(cache, &mut *tx, 2).await?, 130, "its own write");
            Ok::<_, sqlx::Error>(())
        })
        .await;
        done.unwrap();
        for id in [1, 2, 1, 2] {
            assert_eq!(bank.seen(id).await, [100; 4], "nothing is committed");
        }
        // Somebody reads the old row, and would store it after the commit.
        let (has_read, (go, go_on)) = (Notify::new(), oneshot::channel());
        let late = slow_balance(other, pool, 1, &has_read, go_on);
        let writer = async {
            has_read.notified().await;
            tx.commit().await.unwrap();
            invalidations.apply().await;
            for id in [1, 2] {
                assert_eq!(bank.seen(id).await, [if id == 1 { 70 } else { 130 }; 4]);
            }
            go.send(()).unwrap();
        };
        let (late, ()) = tokio::join!(late, writer);
        assert_eq!(late.unwrap(), 100, "who asked before the commit may get it");
        assert_eq!(slow_balance::cached(cache, 1).await.unwrap().map(Result::unwrap), None);
    }
}

#[tokio::test]
async fn a_rollback_leaves_the_cache_as_it_was() {
    for bank in banks().await {
        let Bank { cache, .. } = &bank;
        bank.seen(1).await;
        let mut tx = bank.begin().await;
        let (done, invalidations) = deferred(transfer(cache, &mut tx, 1, 2, 30)).await;
        done.unwrap();
        tx.rollback().await.unwrap();
        invalidations.discard();
        assert_eq!(balance::cached(cache, 1).await.unwrap().map(Result::unwrap), Some(100));
        assert_eq!(bank.seen(1).await, [100; 4]);
    }
}

#[tokio::test]
async fn an_error_in_the_middle_leaves_nothing_of_it_behind() {
    async fn overdraw(bank: &Bank) -> sqlx::Result<()> {
        let mut tx = bank.begin().await;
        // The second write fails; dropped are the list and the transaction.
        let (done, invalidations) = deferred(transfer(&bank.cache, &mut tx, 1, 2, 300)).await;
        done?;
        tx.commit().await?;
        invalidations.apply().await;
        Ok(())
    }
    for bank in banks().await {
        assert_eq!(bank.seen(2).await, [100; 4]);
        overdraw(&bank).await.unwrap_err();
        for id in [1, 2] {
            assert_eq!(bank.seen(id).await, [100; 4]);
        }
    }
}

#[tokio::test]
async fn a_savepoint_is_committed_with_its_transaction() {
    for bank in banks().await {
        let Bank { cache, .. } = &bank;
        assert_eq!(bank.seen(1).await, [100; 4]);
        let mut tx = bank.begin().await;
        let ((), invalidations) = deferred(async {
            let mut savepoint = tx.begin().await.unwrap();
            let (done, inner) = deferred(add(cache, &mut savepoint, 1, 11)).await;
            done.unwrap();
            savepoint.commit().await.unwrap();
            inner.apply().await;
        })
        .await;
        assert_eq!(bank.seen(1).await, [100; 4], "it was forgotten, and read again");
        tx.commit().await.unwrap();
        invalidations.apply().await;
        assert_eq!(bank.seen(1).await, [111; 4]);
    }
}

/// Two writers, one of each process, that commit and roll back, and readers who never get less than what
/// was committed when the newest `apply` before their question returned; for values kept in the process,
/// the newest one in that process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_is_older_than_what_was_applied_before_it() {
    const ROUNDS: usize = 40;
    for bank in banks().await {
        let bank = &bank;
        let (everywhere, here) = (&AtomicI64::new(100), &AtomicI64::new(100));
        let running = &AtomicI64::new(2);
        let write = async |cache: &Cache, floors: &[&AtomicI64]| {
            for _ in 0..ROUNDS {
                let mut tx = bank.begin().await;
                let (new, invalidations) = deferred(async {
                    let new = add(cache, &mut tx, 1, 1).await.unwrap();
                    assert_eq!(balance(cache, &mut *tx, 1).await.unwrap(), new);
                    assert_eq!(near_balance(cache, &mut *tx, 1).await.unwrap(), new);
                    new
                })
                .await;
                tokio::time::sleep(Duration::from_micros(fastrand::u64(..3000))).await;
                if fastrand::u8(..4) == 0 {
                    tx.rollback().await.unwrap();
                    invalidations.discard();
                } else {
                    tx.commit().await.unwrap();
                    invalidations.apply().await;
                    for floor in floors {
                        floor.fetch_max(new, SeqCst);
                    }
                }
            }
            running.fetch_sub(1, SeqCst);
        };
        let read = async |cache: &Cache, is_near: bool, floor: &AtomicI64| {
            let mut reads = 0;
            while running.load(SeqCst) > 0 {
                let least = floor.load(SeqCst);
                let seen = if is_near {
                    near_balance(cache, &bank.pool, 1).await
                } else {
                    balance(cache, &bank.pool, 1).await
                };
                let seen = seen.unwrap();
                assert!(seen >= least, "{seen} after {least} was applied");
                reads += 1;
                tokio::task::yield_now().await;
            }
            assert!(reads > ROUNDS, "it was looked at: {reads}");
        };
        let Bank { cache, other, .. } = bank;
        let both = [everywhere, here];
        tokio::join!(
            write(cache, &both),
            write(other, if cache.store_name() == "embedded" { &both } else { &both[..1] }),
            read(cache, false, everywhere),
            read(other, false, everywhere),
            read(cache, true, here),
        );
        assert_eq!(bank.seen(1).await[0], everywhere.load(SeqCst));
    }
}
