//! What a server is part of, and so how it is asked.

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisResult, Value};

/// What a server is part of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Part {
    /// It has all keys.
    #[default]
    Whole,
    /// It has some slots of a cluster: what is asked in one command is about keys of one slot.
    Node,
    /// It is asked for keys of a slot that it is just being given, which must be said with each command.
    Importing,
}

impl Part {
    /// Sends one command.
    pub(super) async fn one(
        self,
        connection: &mut MultiplexedConnection,
        command: &Cmd,
    ) -> RedisResult<Value> {
        if self != Self::Importing {
            return connection.send_packed_command(command).await;
        }
        let mut both = Pipeline::with_capacity(2);
        both.cmd("ASKING").add_command(command.clone());
        let replies = connection.send_packed_commands(&both, 1, 1).await?;
        Ok(replies.into_iter().next().unwrap_or(Value::Nil))
    }

    /// Sends several in one flush; there is a reply for each.
    pub(super) async fn many(
        self,
        connection: &mut MultiplexedConnection,
        commands: &Pipeline,
    ) -> RedisResult<Vec<Value>> {
        if self != Self::Importing {
            return connection.send_packed_commands(commands, 0, commands.len()).await;
        }
        let mut all = Pipeline::with_capacity(2 * commands.len());
        for command in commands.cmd_iter() {
            all.cmd("ASKING").add_command(command.clone());
        }
        let replies = connection.send_packed_commands(&all, 0, all.len()).await?;
        Ok(replies.into_iter().skip(1).step_by(2).collect())
    }
}
