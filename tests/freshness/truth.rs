//! The database: versions that only grow, on a server that nothing ever happens to.

use tokio::sync::Mutex;

use crate::support::client::Client;

/// A connection to it, for one task.
#[derive(Debug)]
pub(crate) struct Truth {
    url: String,
    client: Mutex<Option<Client>>,
}

/// Another connection, for a load that outlives its caller.
impl Clone for Truth {
    fn clone(&self) -> Self {
        Self::at(&self.url)
    }
}

impl Truth {
    pub(crate) fn at(url: &str) -> Self {
        Self { url: url.to_owned(), client: Mutex::new(None) }
    }

    /// What a load reads.
    pub(crate) async fn version(&self, key: usize) -> u64 {
        match self.ask(&format!("GET {}", name(key))).await.as_str() {
            "(nil)" => 0,
            number => number.parse().expect("a version"),
        }
    }

    /// What a writer does; gives the version that it made.
    pub(crate) async fn write(&self, key: usize) -> u64 {
        self.ask(&format!("INCR {}", name(key))).await.parse().expect("a version")
    }

    async fn ask(&self, command: &str) -> String {
        let mut slot = self.client.lock().await;
        // Cancel: with the caller goes the connection, whose next reply would answer this question.
        let mut client = match slot.take() {
            Some(client) => client,
            None => Client::to(&self.url).await,
        };
        let reply = client.ask(command).await;
        *slot = Some(client);
        reply
    }
}

/// Where the version of a key stands.
pub(crate) fn name(key: usize) -> String {
    format!("truth:{key}")
}
