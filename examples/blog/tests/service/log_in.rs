//! Sessions, passwords, and who may do what.

use serde_json::json;

use crate::instance::{Home, PASSWORD};
use crate::on_both;

#[test]
fn who_logs_in_is_known_until_they_log_out() {
    on_both(|home| {
        let blog = home.start();
        let mut ada = blog.visitor();
        assert_eq!(ada.get("/write").status, 401);
        let answer = ada.send("/login", &[("name", "ada"), ("password", PASSWORD)]);
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/"));
        let cookie = answer.header("set-cookie");
        for part in ["HttpOnly", "SameSite=Lax", "Path=/"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        assert!(!cookie.contains("Secure"), "this is no TLS: {cookie}");
        assert_eq!(ada.get("/write").status, 200);

        let kept = ada.clone();
        assert_eq!(ada.send("/logout", &[]).status, 303);
        assert_eq!(ada.cookie, None);
        assert_eq!(kept.get("/write").status, 401, "the id is dead, whoever still has it");
    });
}

#[test]
fn behind_tls_the_cookie_is_for_tls_only() {
    let home = Home::embedded();
    let blog = home.start_with(&[("BLOG_HTTPS", "on")]);
    let mut ada = blog.visitor();
    let answer = ada.send("/login", &[("name", "ada"), ("password", PASSWORD)]);
    let cookie = answer.header("set-cookie");
    assert!(cookie.starts_with("__Host-session=") && cookie.contains("; Secure"), "{cookie}");
    assert_eq!(ada.get("/write").status, 200);
}

#[test]
fn logging_in_gives_a_new_id_and_ends_the_old_one() {
    on_both(|home| {
        let blog = home.start();
        let mut ada = blog.member("ada");
        let old = ada.clone();
        assert_eq!(old.get("/account").status, 200);
        ada.send("/login", &[("name", "ada"), ("password", PASSWORD)]);
        assert_ne!(ada.cookie, old.cookie);
        assert_eq!((ada.get("/account").status.as_u16(), old.get("/account").status.as_u16()), (200, 401));

        // An id that somebody else chose doesn't become good.
        let mut fixed = blog.visitor();
        let chosen = format!("session={}", "A".repeat(64));
        fixed.cookie = Some(chosen.clone());
        let victim = fixed.clone();
        fixed.send("/login", &[("name", "ada"), ("password", PASSWORD)]);
        assert_ne!(fixed.cookie, Some(chosen));
        assert_eq!(
            (fixed.get("/account").status.as_u16(), victim.get("/account").status.as_u16()),
            (200, 401)
        );
    });
}

#[test]
fn wrong_passwords_and_unknown_names_look_alike() {
    let home = Home::embedded();
    let blog = home.start();
    let mut texts = Vec::new();
    for (name, password) in [("ada", "wrong horse"), ("nobody", PASSWORD), ("ada", ""), ("", "")] {
        let mut visitor = blog.visitor();
        let answer = visitor.send("/login", &[("name", name), ("password", password)]);
        assert_eq!((answer.status.as_u16(), visitor.cookie), (401, None));
        texts.push(answer.text);
    }
    texts.dedup();
    assert_eq!(texts.len(), 1);
    assert!(texts[0].contains("Wrong name or password."));
}

#[test]
fn passwords_can_not_be_tried_at_will() {
    on_both(|home| {
        let blog = home.start_with(&[("BLOG_TRIES", "3")]);
        let mut visitor = blog.visitor();
        let mut try_it = |password| visitor.send("/login", &[("name", "ada"), ("password", password)]);
        let tries = (0..10).take_while(|_| try_it("wrong horse").status == 401).count();
        // A try that wasn't answered in time was counted, too.
        assert!(if home.is_embedded() { tries == 3 } else { tries <= 3 }, "{tries}");
        let answer = try_it(PASSWORD);
        assert_eq!(answer.status, 429, "not with the right one either");
        let wait: u64 = answer.header("retry-after").parse().unwrap();
        assert!((1..=300).contains(&wait), "{wait}");
    });
}

#[test]
fn authors_join_and_leave() {
    on_both(|home| {
        let blog = home.start();
        let mut mallory = blog.visitor();
        assert_eq!(mallory.get("/@mallory").status, 404); // which is cached
        for (name, password) in [("ada", "long enough"), ("Mallory!", "long enough"), ("mallory", "short")] {
            assert_eq!(mallory.send("/join", &[("name", name), ("password", password)]).status, 422);
        }
        assert_eq!(mallory.send("/join", &[("name", "mallory"), ("password", "long enough")]).status, 303);
        assert_eq!(mallory.send("/account/about", &[("about", "Listens.")]).status, 303);
        assert!(mallory.get("/@mallory").text.contains("Listens."));
        let post = mallory.post_json("/api/posts", &json!({ "title": "Heard", "body": "It all." })).json();
        let path = format!("/@mallory/{}", post["id"]);
        assert_eq!(mallory.send("/@ada/1/comments", &[("text", "I heard that.")]).status, 303);
        for path in ["/", "/@ada/1", "/@mallory", &path] {
            assert!(mallory.get(path).text.contains("mallory"), "{path}"); // and in the cache
        }

        let elsewhere = mallory.clone();
        assert_eq!(mallory.send("/account/leave", &[("password", "a wrong one")]).status, 401);
        assert_eq!(mallory.send("/account/leave", &[("password", "long enough")]).status, 303);
        assert_eq!(elsewhere.get("/account").status, 401, "all of her sessions end");
        let visitor = blog.visitor();
        assert_eq!(
            (visitor.get("/@mallory").status.as_u16(), visitor.get(&path).status.as_u16()),
            (404, 404)
        );
        assert!(!visitor.get("/").text.contains("mallory"));
        let post = visitor.get("/@ada/1").text;
        assert!(!post.contains("mallory") && post.contains("1 comment<"), "{post}");
    });
}

#[test]
fn others_posts_are_not_mine_to_change() {
    let home = Home::embedded();
    let blog = home.start();
    let before = blog.visitor().get("/api/authors/ada/posts/1").json();
    let draft = json!({ "title": "Mine", "body": "Mine." });
    let form = [("title", "Mine"), ("body", "Mine.")];
    let (mut grace, mut nobody) = (blog.member("grace"), blog.visitor());
    for (who, status) in [(&mut grace, 403), (&mut nobody, 401)] {
        assert_eq!(who.get("/@ada/1/edit").status, status);
        assert_eq!(who.send("/@ada/1/edit", &form).status, status);
        assert_eq!(who.send("/@ada/1/delete", &[]).status, status);
        assert_eq!(who.put_json("/api/authors/ada/posts/1", &draft).status, status);
        assert_eq!(who.delete("/api/authors/ada/posts/1").status, status);
    }
    // Under her own name it isn't there.
    assert_eq!(grace.send("/@grace/1/edit", &form).status, 404);
    assert_eq!(grace.delete("/api/authors/grace/posts/1").status, 404);
    assert_eq!(blog.visitor().get("/api/authors/ada/posts/1").json(), before);

    let mut ada = blog.member("ada");
    assert_eq!(ada.send("/@ada/1/edit", &form).status, 303);
    assert!(ada.get("/@ada/1").text.contains("Mine."));
    assert_eq!(ada.delete("/api/authors/ada/posts/1").status, 204);
    assert_eq!(ada.get("/@ada/1").status, 404);
}

#[test]
fn what_other_sites_send_is_refused() {
    let home = Home::embedded();
    let blog = home.start();
    let mut ada = blog.member("ada");
    let own = blog.url.clone();
    let text = [("text", "Buy this.")];
    for foreign in [
        [("origin", "https://evil.example")],
        [("origin", "null")],
        [("origin", "http://127.0.0.1")],
        [("sec-fetch-site", "cross-site")],
        [("sec-fetch-site", "same-site")],
    ] {
        let answer = ada.send_as("/@ada/1/comments", &text, &foreign);
        assert_eq!(answer.status, 403, "{foreign:?}");
        assert_eq!(blog.visitor().send_as("/login", &[], &foreign).status, 403, "{foreign:?}");
    }
    assert!(!ada.get("/@ada/1").text.contains("Buy this."));
    for ours in [[("origin", own.as_str())], [("sec-fetch-site", "same-origin")]] {
        assert_eq!(ada.send_as("/@ada/1/comments", &text, &ours).status, 303, "{ours:?}");
    }
}
