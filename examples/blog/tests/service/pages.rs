//! What stands in pages, and how errors look.

use serde_json::json;

use crate::instance::Home;
use crate::on_both;

#[test]
fn everything_is_escaped() {
    let home = Home::embedded();
    let blog = home.start();
    let mut ada = blog.member("ada");
    let hostile = "<script>alert('&')</script><img src=x onerror=\"alert(1)\">";
    let post = ada.post_json("/api/posts", &json!({ "title": hostile, "body": hostile })).json();
    let path = format!("/@ada/{}", post["id"]);
    ada.send(&format!("{path}/comments"), &[("text", hostile)]);
    ada.send("/account/about", &[("about", hostile)]);
    ada.send("/write", &[("title", hostile), ("body", "")]); // comes back with what was wrong
    for page in ["/", &path, &format!("{path}/edit"), "/@ada", "/account", "/stats"] {
        let answer = ada.get(page);
        assert_eq!(answer.status, 200, "{page}");
        assert!(!answer.text.contains("<script") && !answer.text.contains("<img"), "{page}: {}", answer.text);
        assert!(answer.header("content-security-policy").starts_with("default-src 'none'"), "{page}");
        assert!(page == "/stats" || answer.text.contains("&lt;script&gt;alert('&amp;')"), "{page}");
    }
    let again = ada.send("/write", &[("title", hostile), ("body", "")]);
    assert_eq!(again.status, 422);
    assert!(again.text.contains("A post needs a text.") && again.text.contains("&lt;script&gt;"));
    assert!(!again.text.contains("<script"));
}

#[test]
fn errors_are_pages_for_people_and_objects_for_programs() {
    let home = Home::embedded();
    let blog = home.start();
    let visitor = blog.visitor();
    for path in ["/nothing/here", "/@nobody", "/@ada/4711", "/@ada/no-number"] {
        let answer = visitor.get(path);
        assert!(answer.status.is_client_error(), "{path}");
        assert!(answer.text.contains("The Hot Path"), "{path}: {}", answer.text);
    }
    assert!(visitor.get("/nothing/here").text.contains("There is nothing here."));
    for path in
        ["/api/nothing", "/api/authors/nobody", "/api/authors/ada/posts/4711", "/api/authors/ada/posts/x"]
    {
        let answer = visitor.get(path);
        assert!(answer.status.is_client_error(), "{path}");
        assert!(answer.json()["error"].is_string(), "{path}: {}", answer.text);
    }
    let answer = blog.member("ada").post_json("/api/posts", &json!({ "title": "No text", "body": " " }));
    assert_eq!((answer.status.as_u16(), answer.json()), (422, json!({ "error": "A post needs a text." })));
}

#[test]
fn requests_are_limited_and_allowed_again() {
    on_both(|home| {
        let blog = home.start_with(&[("BLOG_REQUESTS", "3"), ("BLOG_WINDOW", "2")]);
        let visitor = blog.visitor();
        let refused = (0..1000).find_map(|_| {
            let answer = visitor.get("/api/posts");
            (answer.status != 200).then_some(answer)
        });
        let refused = refused.expect("three in two seconds are allowed");
        assert_eq!(refused.status, 429);
        assert!(refused.json()["error"].as_str().unwrap().starts_with("Too many requests"));
        let wait: u64 = refused.header("retry-after").parse().unwrap();
        assert!((1..=2).contains(&wait), "{wait}");
        assert_eq!(visitor.get("/").status, 200, "pages are not");
        std::thread::sleep(std::time::Duration::from_secs(wait)); // as it says
        assert_eq!(visitor.get("/api/posts").status, 200);
    });
}

#[test]
fn hit_rates_are_drawn() {
    let home = Home::embedded();
    let blog = home.start();
    for _ in 0..10 {
        blog.visitor().get("/@ada");
    }
    let page = blog.visitor().get("/stats").text;
    assert!(page.contains("<svg") && page.contains("get_author"), "{page}");
    let stats = &blog.stats()["functions"]["get_author"];
    let rate = 100.0 * stats["hit_rate"].as_f64().unwrap();
    assert!(page.contains(&format!("{rate:.0} %")), "{stats}: {page}");
}
