//! What an empty blog begins with, so that there is something to read.

use crate::authors;
use crate::comments;
use crate::db::Db;
use crate::error::{Error, Result};
use crate::posts::{self, Draft};

/// Of both authors: it is the example's, so it is no secret.
const PASSWORD: &str = "correct horse";

const POSTS: [(&str, &str, &str); 5] = [
    (
        "ada",
        "The two lines that everybody writes",
        "Look into the cache; if it isn't there, ask the database and put it into the cache. Two lines, and they work \
         on every laptop.\n\n\
         On a busy day they don't. A thousand readers miss at once, and the database gets a thousand times the same \
         question. A reader is slow, a writer is quick, and the old row is stored after the new one was written: from \
         then on everybody reads it, for as long as it lives.\n\n\
         None of this is rare. It only needs a query that takes a while.",
    ),
    (
        "grace",
        "Invalidate after the commit",
        "Before the commit the new row is nobody's but yours. If you forget the cached one now, the next reader asks \
         the database, gets the old row, and stores it again.\n\n\
         So: commit, then forget. And if you die in between? Then the old row stays until its time is over, unless \
         you said before that you were going to write. That is what a fence is for.",
    ),
    (
        "ada",
        "How long should it live?",
        "As long as you can bear to be wrong.\n\n\
         If every write tells the cache, an hour is fine: the time to live is only there for the writes that you \
         forgot about. If nothing tells it, as with somebody else's prices, it is the age that you show to people. \
         Five minutes is a long time at an auction, and nothing in a library.\n\n\
         And don't let all of them end together: a tenth of the time, by chance, is enough to spread them.",
    ),
    (
        "grace",
        "What isn't there is an answer, too",
        "Somebody asks for post 4711. There is no such post, so nothing is stored, so the next one asks the database \
         again. A hundred thousand times, if it is a robot.\n\n\
         Keep the \"no\" as you keep everything else, for a shorter time. And when the post is written, forget it.",
    ),
    (
        "ada",
        "Why <script> does nothing here",
        "Try it: write <script>alert(\"hello\")</script> into a comment. You will read it, and your browser won't run it.\n\n\
         Every value that goes into a page is escaped on its way, & and \"quotes\" too. And if one slipped through, \
         the page's own policy says that nothing runs here at all.",
    ),
];

pub(crate) async fn if_empty(db: &Db) -> Result<()> {
    let authors: i64 = sqlx::query_scalar("SELECT count(*) FROM authors").fetch_one(db.query()).await?;
    if authors > 0 {
        return Ok(());
    }
    for (name, about) in [
        ("ada", "Wrote the first program, before there was a computer to run it."),
        ("grace", "Found the first bug, and kept it."),
    ] {
        match authors::join(db, name, PASSWORD).await {
            Err(Error::Invalid(_)) => return Ok(()), // another instance was quicker
            done => done?,
        }
        authors::describe(db, name, about).await?;
    }
    for (author, title, body) in POSTS {
        let draft = Draft { title: title.to_owned(), body: body.to_owned() };
        let id = posts::publish(db, author, &draft).await?;
        if id == 1 {
            comments::comment(db, author, id, "grace", "And it only happens in production.").await?;
        }
    }
    tracing::info!("an empty blog: ada and grace log in with `{PASSWORD}`");
    Ok(())
}
