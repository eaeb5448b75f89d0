//! What the programs are written with.

use std::path::Path;

#[derive(Debug, Clone, Copy)]
pub enum Way {
    Ours,
    Cached,
    ByHand,
    /// No cache at all: what the functions and the runtime cost.
    Bare,
}

impl Way {
    pub const BASE: &str = "\
serde = { version = \"1\", features = [\"derive\"] }
tokio = { version = \"1\", features = [\"macros\", \"rt-multi-thread\"] }
";
    /// What stands before what a touch changes.
    pub const CHANGES: &str = "let score = ";

    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "#[cache]",
            Self::Cached => "cached: #[concurrent_cached(redis)]",
            Self::ByHand => "redis-rs and serde_json by hand",
            Self::Bare => "no cache",
        }
    }

    /// As few features as will do.
    pub fn dependencies(self) -> String {
        match self {
            Self::Ours => {
                let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the product");
                format!("cache-aside = {{ path = {:?} }}\n", root.display().to_string())
            }
            Self::Cached => "cached = { version = \"4.1\", default-features = false, \
                features = [\"proc_macro\", \"redis_tokio\"] }\n"
                .to_owned(),
            Self::ByHand => {
                "redis = { version = \"1\", default-features = false, features = [\"tokio-comp\"] }\n\
                serde_json = \"1\"\n"
                    .to_owned()
            }
            Self::Bare => String::new(),
        }
    }

    /// What a file begins with.
    pub fn head(self) -> String {
        let own = match self {
            Self::Ours => "use cache_aside::cache;\n",
            Self::Cached => "use cached::macros::concurrent_cached;\n",
            Self::ByHand => BY_HAND,
            Self::Bare => "",
        };
        format!("use std::io;\n\n{own}use serde::{{Deserialize, Serialize}};\n")
    }

    /// A type, and a function of two arguments that returns it.
    pub fn function(self, number: usize) -> String {
        let (attribute, before) = match self {
            Self::Ours => ("#[cache(ttl = 600)]\n", ""),
            Self::Cached => (
                "#[concurrent_cached(\n    redis = true,\n    ttl_secs = 600,\n    key = \"String\",\n    \
                convert = { format!(\"{id}:{tenant}\") },\n    \
                map_error = |e| io::Error::other(format!(\"{e:?}\"))\n)]\n",
                "",
            ),
            Self::ByHand => (
                "",
                "    let key = format!(\"row:{id}:{tenant}\");\n    \
                if let Some(row) = cached(&key).await? {\n        return Ok(row);\n    }\n",
            ),
            Self::Bare => ("", ""),
        };
        let after = if let Self::ByHand = self { "    store(&key, &row).await?;\n" } else { "" };
        let changes = Self::CHANGES;
        format!(
            "
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row{number} {{
    pub id: u64,
    pub tenant: String,
    pub score: f64,
    pub tags: Vec<String>,
}}

{attribute}pub async fn row{number}(id: u64, tenant: &str) -> Result<Row{number}, io::Error> {{
{before}    {changes}{number}.0;
    let row = Row{number} {{ id, tenant: tenant.to_owned(), score, tags: vec![tenant.to_owned()] }};
{after}    Ok(row)
}}
"
        )
    }
}

/// What people write.
const BY_HAND: &str = r#"use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use tokio::sync::OnceCell;

static CONNECTION: OnceCell<MultiplexedConnection> = OnceCell::const_new();

async fn connection() -> Result<MultiplexedConnection, io::Error> {
    let connect = || async {
        let client = redis::Client::open("redis://127.0.0.1/").map_err(io::Error::other)?;
        client.get_multiplexed_async_connection().await.map_err(io::Error::other)
    };
    CONNECTION.get_or_try_init(connect).await.cloned()
}

async fn cached<T: serde::de::DeserializeOwned>(key: &str) -> Result<Option<T>, io::Error> {
    let json: Option<Vec<u8>> = connection().await?.get(key).await.map_err(io::Error::other)?;
    Ok(json.and_then(|json| serde_json::from_slice(&json).ok()))
}

async fn store<T: Serialize>(key: &str, value: &T) -> Result<(), io::Error> {
    let json = serde_json::to_vec(value)?;
    connection().await?.set_ex(key, json, 600).await.map_err(io::Error::other)
}

"#;
