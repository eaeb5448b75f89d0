//! Where the server of a link is.

use std::sync::Arc;

use super::Link;
use crate::store::redis::address::Address;
use crate::store::redis::deployment::Sentinels;
use crate::store::redis::sentinel::Sentinel;

/// Where the server of a link is.
pub(crate) enum Place {
    /// Always there.
    Server(Address),
    /// Where its sentinels say, under this name for people.
    Sentinel { shown: Address, sentinel: Arc<Sentinel> },
}

impl From<Address> for Place {
    fn from(address: Address) -> Self {
        Self::Server(address)
    }
}

impl From<Sentinels> for Place {
    fn from(sentinels: Sentinels) -> Self {
        Self::Sentinel { shown: sentinels.primary.clone(), sentinel: Arc::new(Sentinel::new(sentinels)) }
    }
}

impl Link {
    /// What is said of it, and how it is spoken to.
    pub(in crate::store::redis) fn address(&self) -> &Address {
        match &self.place {
            Place::Server(address) | Place::Sentinel { shown: address, .. } => address,
        }
    }

    /// Where the main connection leads: connections beside it go there too.
    pub(in crate::store::redis) fn server(&self) -> Address {
        match &self.place {
            Place::Server(address) => address.clone(),
            Place::Sentinel { sentinel, .. } => sentinel.server(),
        }
    }

    pub(in crate::store::redis) fn sentinel(&self) -> Option<&Arc<Sentinel>> {
        match &self.place {
            Place::Server(_) => None,
            Place::Sentinel { sentinel, .. } => Some(sentinel),
        }
    }
}
