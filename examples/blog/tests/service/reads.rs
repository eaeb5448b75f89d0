//! What the database is asked.

use serde_json::json;

use crate::instance::{Home, Instance};
use crate::on_both;

fn loads(blog: &Instance, function: &str) -> u64 {
    blog.stats()["functions"][function]["loads"].as_u64().unwrap()
}

#[test]
fn hits_ask_the_database_nothing() {
    on_both(|home| {
        let blog = home.start();
        let visitor = blog.visitor();
        let paths =
            ["/@ada", "/@grace", "/api/authors/ada", "/api/authors/ada/posts", "/api/posts", "/@ada?page=1"];
        let read = || paths.map(|path| visitor.get(path).text);
        let first = read();
        let queries = || blog.stats()["queries"].as_u64().unwrap();
        let before = queries();
        for _ in 0..20 {
            assert_eq!(read(), first);
        }
        // A server that doesn't answer in time is asked no more, but the database.
        let most = if home.is_embedded() { 0 } else { 20 };
        assert!(queries() - before <= most, "{} queries", queries() - before);
        for function in ["get_author", "posts_by"] {
            let counted = &blog.stats()["functions"][function];
            assert!(counted["hit_rate"].as_f64().unwrap() > 0.8, "{function}: {counted}");
        }
    });
}

#[test]
fn a_post_that_is_not_there_is_looked_for_once() {
    let home = Home::embedded();
    let blog = home.start();
    for _ in 0..20 {
        assert_eq!(blog.visitor().get("/@ada/4711").status, 404);
        assert_eq!(blog.visitor().get("/@nobody").status, 404);
    }
    assert_eq!((loads(&blog, "get_post"), loads(&blog, "get_author")), (1, 1));
}

#[test]
fn a_post_that_was_looked_for_before_it_was_written_is_found() {
    on_both(|home| {
        let blog = home.start();
        let ada = blog.member("ada");
        assert_eq!(ada.get("/@ada/6").status, 404); // five are there
        let answer = ada.post_json("/api/posts", &json!({ "title": "Six", "body": "At last." }));
        assert_eq!((answer.status.as_u16(), answer.json()), (201, json!({ "id": 6 })));
        assert_eq!(answer.header("location"), "/api/authors/ada/posts/6");
        assert!(ada.get("/@ada/6").text.contains("At last."));
        assert!(ada.get("/").text.contains("At last."));
    });
}

#[test]
fn a_write_forgets_what_it_changed_and_nothing_else() {
    let home = Home::embedded();
    let blog = home.start();
    let mut grace = blog.member("grace");
    let read = || {
        for path in ["/@ada/1", "/@ada/3", "/@ada", "/@grace", "/"] {
            assert_eq!(blog.visitor().get(path).status, 200);
        }
    };
    read();
    let before = ["get_post", "posts_by", "get_author"].map(|function| loads(&blog, function));
    assert_eq!(grace.send("/@ada/1/comments", &[("text", "So <b>true</b>.")]).status, 303);
    read();
    read();
    let after = ["get_post", "posts_by", "get_author"].map(|function| loads(&blog, function));
    // The post and Ada's list hold the number of comments; Ada herself, Grace and the other post don't.
    assert_eq!([after[0] - before[0], after[1] - before[1], after[2] - before[2]], [1, 1, 0]);
    assert!(blog.visitor().get("/").text.contains("2 comments"));
}

#[test]
fn without_the_cache_each_read_asks() {
    on_both(|home| {
        let blog = home.start_with(&[("BLOG_CACHE", "off")]);
        let queries = || blog.stats()["queries"].as_u64().unwrap();
        let before = queries();
        for _ in 0..10 {
            blog.visitor().get("/@ada"); // the author, and a page of posts
        }
        assert_eq!(queries() - before, 20);
    });
}
