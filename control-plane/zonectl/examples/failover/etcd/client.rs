//! A client of etcd that behaves as ours does: the same time for an attempt and for a request, the same
//! waits between rounds, and the next member at once when one does not answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use client::Options;
use runtime::{
    grpc::{ChannelOptions, Channels},
    seams::Environment,
};
use tonic::{Status, transport::Channel};

use super::api::{self, PutRequest, RangeRequest, StatusResponse};

/// How long a member may take to say how it is.
const STATUS_TIMEOUT: Duration = Duration::from_millis(500);

#[derive(Clone)]
pub struct EtcdClient {
    environment: Environment,
    options: Arc<Options>,
    channels: Arc<Channels>,
    endpoints: Arc<Vec<String>>,
    /// The member that answered last.
    preferred: Arc<AtomicUsize>,
}

impl EtcdClient {
    pub fn new(environment: &Environment, endpoints: Vec<String>) -> anyhow::Result<Self> {
        Ok(Self {
            environment: environment.clone(),
            options: Arc::default(),
            channels: Arc::new(Channels::new(environment, ChannelOptions::default())?),
            endpoints: Arc::new(endpoints),
            preferred: Arc::default(),
        })
    }

    fn channel(&self, member: usize) -> Channel {
        self.channels.get(&self.endpoints[member])
    }

    pub async fn put(&self, key: Bytes, value: Bytes) -> Result<(), String> {
        let put = |channel| {
            let request = PutRequest { key: key.clone(), value: value.clone() };
            async move { api::put(channel, request).await.map(|_| ()) }
        };
        self.retried(put).await
    }

    pub async fn get(&self, key: Bytes) -> Result<Option<Bytes>, String> {
        let get = |channel| {
            let request = RangeRequest { key: key.clone() };
            async move {
                let found = api::range(channel, request).await?.found;
                Ok(found.into_iter().next().map(|entry| entry.value))
            }
        };
        self.retried(get).await
    }

    pub async fn status(&self, member: usize) -> Result<StatusResponse, Status> {
        let status = api::status(self.channel(member));
        let answer = self.environment.timeout(STATUS_TIMEOUT, status).await;
        answer.unwrap_or_else(|| Err(Status::deadline_exceeded("no answer in time")))
    }

    /// Attempts at one member after the other, until one succeeds or the request's time is over.
    async fn retried<T, F>(&self, attempt: impl Fn(Channel) -> F) -> Result<T, String>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut last = String::new();
        let trying = async {
            let mut backoff = self.options.backoff_min;
            loop {
                let first = self.preferred.load(Ordering::Relaxed);
                for turn in 0..self.endpoints.len() {
                    let member = (first + turn) % self.endpoints.len();
                    let attempt = attempt(self.channel(member));
                    let limit = self.options.attempt_timeout;
                    match self.environment.timeout(limit, attempt).await {
                        Some(Ok(answer)) => {
                            self.preferred.store(member, Ordering::Relaxed);
                            return answer;
                        }
                        Some(Err(status)) => last = format!("{:?}", status.code()),
                        None => last = "no answer in time".to_owned(),
                    }
                }
                self.environment.sleep(self.environment.jittered(backoff)).await;
                backoff = (backoff * 2).min(self.options.backoff_max);
            }
        };
        let answer = self.environment.timeout(self.options.deadline, trying).await;
        answer.ok_or(last)
    }
}
