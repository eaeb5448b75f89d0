//! A blog's process, and browsers that visit it.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body, RequestBuilder};

use crate::server::Server;

/// Of the authors that a blog begins with.
pub const PASSWORD: &str = "correct horse";

/// Ends a blog when the pipe ends: so it doesn't outlive a test process that was itself killed.
const KEEPER: &str = r#"trap "" INT HUP TERM; cat > /dev/null; kill -KILL "$1""#;

/// Where a blog keeps its rows and entries: a folder, and a server if there is one.
pub struct Home {
    folder: PathBuf,
    redis: Option<String>,
}

impl Home {
    pub fn embedded() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("cache-aside-blog-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let folder = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&folder); // of a killed process that had our id
        std::fs::create_dir_all(&folder).expect("the temporary directory takes files");
        Self { folder, redis: None }
    }

    pub fn on(server: &Server) -> Self {
        let mut home = Self::embedded();
        home.redis = Some(server.url());
        home
    }

    pub fn is_embedded(&self) -> bool {
        self.redis.is_none()
    }

    /// The rows stay, the server is forgotten.
    pub fn leave_server(&mut self) {
        self.redis = None;
    }

    pub fn start(&self) -> Instance {
        self.start_with(&[])
    }

    /// Starts the program and waits until it says where it listens.
    pub fn start_with(&self, settings: &[(&str, &str)]) -> Instance {
        let mut command = Command::new(env!("CARGO_BIN_EXE_blog"));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if ["REDIS_", "BLOG_", "CACHE_"].iter().any(|ours| name.starts_with(ours)) {
                command.env_remove(&*name);
            }
        }
        // A generous limit, for whoever doesn't test that.
        command.env("PORT", "0").env("BLOG_DB", self.folder.join("blog.db")).env("BLOG_REQUESTS", "100000");
        command.env("BLOG_TRIES", "1000").envs(self.redis.iter().map(|url| ("REDIS_URL", url)));
        command.envs(settings.iter().copied()).current_dir(&self.folder);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it is built");
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper", &process.id().to_string()])
            .stdin(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let mut said = BufReader::new(process.stdout.take().expect("it is piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("it says something");
        let url = line.split(' ').next().filter(|url| url.starts_with("http://"));
        let url = url.unwrap_or_else(|| panic!("it says where it listens: {line:?}")).to_owned();
        Instance { process, keeper, said, url }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A blog that runs. Dropped, it is killed.
pub struct Instance {
    process: Child,
    keeper: Child,
    said: BufReader<ChildStdout>,
    pub url: String,
}

impl Instance {
    pub fn visitor(&self) -> Browser {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(0) // who is refused before the body was read finds the connection closed
            .proxy(None)
            .build();
        Browser { agent: agent.into(), url: self.url.clone(), cookie: None }
    }

    /// Somebody who has logged in.
    pub fn member(&self, name: &str) -> Browser {
        let mut browser = self.visitor();
        let answer = browser.send("/login", &[("name", name), ("password", PASSWORD)]);
        assert_eq!(answer.status, 303, "{}", answer.text);
        browser
    }

    /// What `/api/stats` says of it.
    pub fn stats(&self) -> Value {
        self.visitor().get("/api/stats").json()
    }

    /// As a service manager does, and waits until it has ended: well.
    pub fn stop(mut self) {
        let id = self.process.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().expect("there is a `kill`");
        assert!(sent.success());
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).expect("it closes its output");
        let ended = self.process.wait().expect("it is our child");
        assert!(ended.success() && rest.contains("stopping"), "{ended}: {rest}");
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // The keeper does nothing as long as we hold its pipe.
        for child in [&mut self.process, &mut self.keeper] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Keeps the session's cookie, as browsers do. Follows no redirects.
#[derive(Clone)]
pub struct Browser {
    agent: Agent,
    url: String,
    pub cookie: Option<String>,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: ureq::http::HeaderMap,
    pub text: String,
}

impl Browser {
    /// The same one at another instance.
    pub fn at(&self, other: &Instance) -> Self {
        Self { url: other.url.clone(), ..self.clone() }
    }

    pub fn get(&self, path: &str) -> Answer {
        patiently(|| self.once(self.agent.get(format!("{}{path}", self.url)), RequestBuilder::call))
    }

    /// A form.
    pub fn send(&mut self, path: &str, form: &[(&str, &str)]) -> Answer {
        self.send_as(path, form, &[])
    }

    /// A form, with headers that a browser would add.
    pub fn send_as(&mut self, path: &str, form: &[(&str, &str)], headers: &[(&str, &str)]) -> Answer {
        let answer = patiently(|| self.send_once(path, form, headers));
        if let Some(set) = answer.headers.get("set-cookie") {
            let pair = set.to_str().expect("it is text").split(';').next().expect("there is a first");
            self.cookie = (!pair.ends_with('=')).then(|| pair.to_owned());
        }
        answer
    }

    /// Takes a 503 for an answer, and no cookie.
    pub fn send_once(&self, path: &str, form: &[(&str, &str)], headers: &[(&str, &str)]) -> Answer {
        let mut request = self.agent.post(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.once(request, |it| it.send_form(form.iter().copied()))
    }

    /// Takes a 503 for an answer.
    pub fn get_once(&self, path: &str) -> Answer {
        self.once(self.agent.get(format!("{}{path}", self.url)), RequestBuilder::call)
    }

    pub fn post_json(&self, path: &str, body: &Value) -> Answer {
        patiently(|| self.once(self.agent.post(format!("{}{path}", self.url)), |it| it.send_json(body)))
    }

    pub fn put_json(&self, path: &str, body: &Value) -> Answer {
        patiently(|| self.once(self.agent.put(format!("{}{path}", self.url)), |it| it.send_json(body)))
    }

    pub fn delete(&self, path: &str) -> Answer {
        patiently(|| self.once(self.agent.delete(format!("{}{path}", self.url)), RequestBuilder::call))
    }

    fn once<B>(
        &self,
        mut request: RequestBuilder<B>,
        send: impl FnOnce(RequestBuilder<B>) -> Result<Response<Body>, ureq::Error>,
    ) -> Answer {
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", cookie);
        }
        Answer::of(send(request).expect("it answers"))
    }
}

/// On a busy machine a server may take longer to answer than the blog waits for sessions: then it says 503,
/// and can be asked again.
fn patiently(mut ask: impl FnMut() -> Answer) -> Answer {
    until("it is there", || Some(ask()).filter(|answer| answer.status != 503))
}

impl Answer {
    fn of(mut response: Response<Body>) -> Self {
        let text = response.body_mut().read_to_string().expect("it is text");
        Self { status: response.status(), headers: response.headers().clone(), text }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("it is text"))
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("JSON: {}", self.text))
    }
}

/// Waits for what arrives by itself, such as another instance's invalidation of a near value.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        sleep(Duration::from_millis(10));
    }
}
