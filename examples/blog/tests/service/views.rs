//! Views, and the board of the most read posts.

use std::thread;

use serde_json::{Value, json};

use crate::instance::{Home, Instance, until};
use crate::on_both;
use crate::server::Server;

fn view(blog: &Instance, path: &str, times: u32) {
    for _ in 0..times {
        assert_eq!(blog.visitor().get(path).status, 200);
    }
}

fn board(blog: &Instance) -> Value {
    blog.visitor().get("/api/most-read").json()
}

#[test]
fn a_clean_stop_loses_no_view() {
    let server = Server::redis().start();
    for mut home in [Home::embedded(), Home::on(&server)] {
        // Some are written at once, the rest at the stop.
        for _ in 0..2 {
            let blog = home.start_with(&[("BLOG_VIEWS", "3")]);
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| view(&blog, "/@ada/1", 25));
                }
            });
            view(&blog, "/@grace/2", 2);
            blog.stop();
        }
        home.leave_server(); // what SQLite knows
        let expected =
            json!([{ "author": "ada", "id": 1, "views": 200 }, { "author": "grace", "id": 2, "views": 4 }]);
        assert_eq!(board(&home.start()), expected);
    }
}

#[test]
fn the_board_counts_what_was_not_written_yet() {
    on_both(|home| {
        let blog = home.start();
        view(&blog, "/@ada/3", 4);
        view(&blog, "/@ada/1", 2);
        let expected =
            json!([{ "author": "ada", "id": 3, "views": 4 }, { "author": "ada", "id": 1, "views": 2 }]);
        until("the board shows them", || (board(&blog) == expected).then_some(()));
        let page = blog.visitor().get("/").text;
        assert!(page.contains("Most read") && page.contains("4 views"), "{page}");
    });
}

#[test]
fn instances_share_the_board_of_their_server() {
    let server = Server::redis().start();
    let home = Home::on(&server);
    let (one, two) = (home.start(), home.start());
    view(&one, "/@ada/1", 3);
    view(&two, "/@ada/1", 2);
    view(&two, "/@grace/2", 4);
    let expected =
        json!([{ "author": "ada", "id": 1, "views": 5 }, { "author": "grace", "id": 2, "views": 4 }]);
    for blog in [&one, &two] {
        until("the board shows all", || (board(blog) == expected).then_some(()));
    }

    // The server forgets everything; SQLite tells it at the next start.
    one.stop();
    two.stop();
    server.command(&["FLUSHALL"]);
    assert_eq!(board(&home.start()), expected);
}

#[test]
fn a_post_that_was_deleted_is_on_no_board() {
    on_both(|home| {
        let blog = home.start();
        view(&blog, "/@ada/1", 3);
        view(&blog, "/@ada/3", 2);
        until("both are on it", || (board(&blog).as_array()?.len() == 2).then_some(()));
        let mut ada = blog.member("ada");
        assert_eq!(ada.send("/@ada/1/delete", &[]).status, 303);
        let expected = json!([{ "author": "ada", "id": 3, "views": 2 }]);
        until("it is gone", || (board(&blog) == expected).then_some(()));
    });
}
