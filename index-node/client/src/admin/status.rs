//! The zone's status: the leader's view, wherever the leader is.

use std::time::Duration;

use proto::v1;
use runtime::seams::Moment;

use super::{AdminClient, AdminError, Judgement, Problems, Sent, Stub, judge};
use crate::pacing::Backoff;

/// How long one member may take to give its status before the next one is asked.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// The best that one round of questions has brought.
struct Round {
    best: Option<v1::ZoneStatus>,
    /// Whether one of those who answered belongs to a zone, so that there is a leader to be found.
    zone: bool,
}

impl AdminClient {
    /// The zone as its leader sees it; if none is found before the deadline, as the best informed member
    /// does. Where no member belongs to a zone yet, that is the answer, at once.
    ///
    /// # Errors
    /// If no member answers.
    pub async fn status(&self) -> Result<v1::ZoneStatus, AdminError> {
        self.status_within(self.options.deadline).await
    }

    /// The same with a deadline of its own.
    ///
    /// # Errors
    /// If no member answers.
    pub async fn status_within(&self, deadline: Duration) -> Result<v1::ZoneStatus, AdminError> {
        let started = self.environment.now();
        let mut problems = Problems::default();
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        let mut best = None;
        let mut addresses = self.endpoints.clone();
        loop {
            let round = self.ask_round(&addresses, &mut problems, started, deadline).await?;
            if let Some(status) = round.best {
                if status.from_leader || !round.zone {
                    return Ok(status);
                }
                // Who was asked may know members that were not given to us.
                let members = status.control_plane.iter().flat_map(|it| &it.members);
                for member in members.filter(|member| !member.address.is_empty()) {
                    if addresses.len() < ADDRESSES_MAX && !addresses.contains(&member.address) {
                        addresses.push(member.address.clone());
                    }
                }
                best = Some(status);
            }
            let left = deadline.saturating_sub(self.environment.now().since(started));
            let pause = backoff.draw(&self.environment).min(left);
            self.environment.sleep(pause).await;
            let waited = self.environment.now().since(started);
            if best.is_some() {
                (problems.nobody_reached, problems.answered) = (false, true);
            }
            if self.gives_up(&problems, waited, deadline) {
                return best.ok_or_else(|| problems.into_error(waited));
            }
        }
    }

    /// Asks one member after the other until one answers as the leader.
    async fn ask_round(
        &self,
        addresses: &[String],
        problems: &mut Problems,
        started: Moment,
        deadline: Duration,
    ) -> Result<Round, AdminError> {
        let mut round = Round { best: None, zone: false };
        let known = self.leader();
        let others = addresses.iter().filter(|address| Some(*address) != known.as_ref());
        for address in known.iter().chain(others) {
            let send = |mut stub: Stub, request| -> Sent<v1::ZoneStatus> {
                Box::pin(async move { stub.get_zone_status(request).await })
            };
            let message = v1::GetZoneStatusRequest {};
            let left = deadline.saturating_sub(self.environment.now().since(started));
            match self.attempt(address, message, STATUS_TIMEOUT.min(left), send).await {
                Ok(status) if status.from_leader => {
                    self.remember_leader(Some(address));
                    return Ok(Round { best: Some(status), zone: true });
                }
                Ok(status) => {
                    round.zone |= !status.zone_id.is_empty();
                    if round.best.as_ref().is_none_or(|best| best.revision < status.revision) {
                        round.best = Some(status);
                    }
                }
                Err(status) => {
                    if matches!(judge(&status), Judgement::Refused) {
                        return Err(AdminError::Refused(status));
                    }
                    problems.note(address, &status);
                }
            }
        }
        Ok(round)
    }
}

/// The most members that are asked, whatever other members say.
const ADDRESSES_MAX: usize = 16;
