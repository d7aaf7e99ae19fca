//! How a client behaves.

use std::time::Duration;

use runtime::grpc::ChannelOptions;

/// How a [`Client`](crate::Client) behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long one attempt may take.
    pub attempt_timeout: Duration,
    /// How long a request may take, all attempts and waits included. A write that takes longer than 50 s
    /// may end as unknown although it could have been retried.
    pub deadline: Duration,
    /// How long [`connect`](crate::Client::connect) looks for a partition map.
    pub connect_deadline: Duration,
    /// The first wait between two rounds of attempts. It doubles with each round.
    pub backoff_min: Duration,
    /// The longest wait between two rounds of attempts.
    pub backoff_max: Duration,
    pub channels: ChannelOptions,
    /// A partition map from an earlier run: with it, a client starts while the control plane is down.
    pub seed_map: Option<proto::v1::PartitionMap>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            attempt_timeout: Duration::from_millis(300),
            deadline: Duration::from_secs(10),
            connect_deadline: Duration::from_secs(10),
            backoff_min: Duration::from_millis(5),
            backoff_max: Duration::from_millis(200),
            channels: ChannelOptions::default(),
            seed_map: None,
        }
    }
}
