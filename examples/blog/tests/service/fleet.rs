//! Two instances, one Redis, one SQLite file; and what happens without that Redis.

use serde_json::json;

use crate::instance::{Home, Instance, PASSWORD, until};
use crate::server::Server;

/// The value is in the other instance's memory, so that only an invalidation can take it away.
fn keep_near(blog: &Instance, path: &str, function: &str) {
    until("it is a near hit", || {
        let near = || blog.stats()["functions"][function]["near_hits"].as_u64();
        let before = near();
        blog.visitor().get(path);
        (near() > before).then_some(())
    });
}

#[test]
fn what_one_writes_the_other_reads() {
    let server = Server::redis().start();
    let home = Home::on(&server);
    let (one, two) = (home.start(), home.start());
    let mut ada = one.member("ada");
    keep_near(&two, "/@ada/1", "get_post");
    keep_near(&two, "/@ada", "posts_by");

    ada.send("/@ada/1/edit", &[("title", "Another title"), ("body", "Another text.")]);
    assert!(one.visitor().get("/@ada/1").text.contains("Another text."), "who wrote it reads it at once");
    until("the other has the post", || {
        two.visitor().get("/@ada/1").text.contains("Another text.").then_some(())
    });
    until("and the list", || two.visitor().get("/@ada").text.contains("Another title").then_some(()));
    until("and the front page", || two.visitor().get("/").text.contains("Another title").then_some(()));

    // Comments aren't near: what the transaction invalidated is gone everywhere when the writer has its answer.
    two.visitor().get("/api/authors/ada/posts/1");
    ada.send("/@ada/1/comments", &[("text", "Seen at once.")]);
    let post = two.visitor().get("/api/authors/ada/posts/1").json();
    assert_eq!(post["comments"][1]["text"], json!("Seen at once."));

    // And the other way round.
    let there = ada.at(&two);
    assert_eq!(there.delete("/api/authors/ada/posts/1").status, 204);
    until("it is gone", || (one.visitor().get("/@ada/1").status == 404).then_some(()));
}

#[test]
fn a_session_is_good_at_both() {
    let server = Server::redis().start();
    let home = Home::on(&server);
    let (one, two) = (home.start(), home.start());
    let mut ada = one.member("ada");
    let there = ada.at(&two);
    assert_eq!(there.get("/account").status, 200);
    ada.send("/logout", &[]);
    assert_eq!(there.get("/account").status, 401);
}

#[test]
fn a_limit_is_of_both_together() {
    let server = Server::redis().start();
    let home = Home::on(&server);
    let settings = [("BLOG_REQUESTS", "10"), ("BLOG_WINDOW", "3600")];
    let (one, two) = (home.start_with(&settings), home.start_with(&settings));
    let refused = [&one, &two].map(|blog| {
        let visitor = blog.visitor();
        (0..8).filter(|_| visitor.get("/api/posts").status == 429).count()
    });
    // Neither was asked ten times. (The limit is open to what the server didn't answer in time.)
    assert!(refused[0] == 0 && (1..=6).contains(&refused[1]), "{refused:?}");
}

#[test]
fn pages_outlive_the_server() {
    let server = Server::redis().start();
    let home = Home::on(&server);
    let blog = home.start();
    let ada = blog.member("ada");
    server.kill();
    for path in ["/", "/@ada", "/@ada/1", "/login", "/stats", "/api/posts"] {
        assert_eq!(blog.visitor().get(path).status, 200, "{path}");
    }
    assert_eq!(ada.get("/").status, 200, "nobody is known, but all may read");
    assert_eq!(ada.get_once("/write").status, 503);
    let answer = blog.visitor().send_once("/login", &[("name", "ada"), ("password", PASSWORD)], &[]);
    assert_eq!(answer.status, 503, "no limit, no guessing");
}
