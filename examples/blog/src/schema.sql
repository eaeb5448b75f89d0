CREATE TABLE IF NOT EXISTS authors (
    name     TEXT PRIMARY KEY,
    password TEXT NOT NULL,  -- an Argon2id hash with its salt
    about    TEXT NOT NULL DEFAULT '',
    joined   TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ'))
) STRICT;

CREATE TABLE IF NOT EXISTS posts (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,  -- an id is never used twice
    author   TEXT NOT NULL REFERENCES authors ON DELETE CASCADE,
    title    TEXT NOT NULL,
    body     TEXT NOT NULL,
    written  TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ')),
    edited   TEXT,
    comments INTEGER NOT NULL DEFAULT 0,  -- how many
    views    INTEGER NOT NULL DEFAULT 0   -- those that were flushed
) STRICT;
CREATE INDEX IF NOT EXISTS posts_by_author ON posts (author, id);
CREATE INDEX IF NOT EXISTS posts_by_views ON posts (views);

CREATE TABLE IF NOT EXISTS comments (
    id      INTEGER PRIMARY KEY,
    post    INTEGER NOT NULL REFERENCES posts ON DELETE CASCADE,
    author  TEXT NOT NULL REFERENCES authors ON DELETE CASCADE,
    text    TEXT NOT NULL,
    written TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ'))
) STRICT;
CREATE INDEX IF NOT EXISTS comments_by_post ON comments (post, id);
CREATE INDEX IF NOT EXISTS comments_by_author ON comments (author);
