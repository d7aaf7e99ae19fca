//! One zone under one policy.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use client::{AdminClient, AdminOptions, Client, Options};
use proto::v1;
use runtime::seams::Environment;
use serde::Serialize;
use zonectl::{
    dev::{Making, bring_up},
    zone_process::{Binaries, Layout, ZoneProcesses},
};

use crate::{landscape::Landscape, options::Conditions};

/// Longer than a run lasts: nothing is copied because of a loss.
const REPLACE_AFTER: Duration = Duration::from_secs(3 * 3_600);
const REPLICATION_FACTOR: u32 = 3;

/// How load is evened out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balancing {
    /// No transfer, no move, no split.
    Off,
    /// As the policy is when a zone is made: unevenness is acted on after 30 s.
    On,
    /// As that, but after 5 s.
    Soon,
}

const SOON_MS: u64 = 5_000;

impl Balancing {
    pub fn title(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
            Self::Soon => "on, acts after 5 s",
        }
    }

    /// Puts it into the policy.
    fn write_into(self, policy: &mut v1::BalancePolicy) {
        match self {
            Self::Off => {
                policy.transfers_max = Some(0);
                policy.moves_zone_max = Some(0);
                policy.splits_max = Some(0);
            }
            Self::On => {}
            Self::Soon => policy.act_after_ms = Some(SOON_MS),
        }
    }
}

pub struct Zone {
    pub processes: ZoneProcesses,
    pub client: Client,
}

impl Zone {
    /// Up, with its policy, and without load.
    pub async fn start(
        environment: &Environment,
        conditions: &Conditions,
        landscape: &Landscape,
        balancing: Balancing,
        base_port: u16,
        data: PathBuf,
    ) -> anyhow::Result<Self> {
        let layout = Layout::new(conditions.members, conditions.index_nodes, base_port, data);
        let endpoints = layout.endpoints();
        let mut processes = ZoneProcesses::new(layout, Binaries::beside_this_program()?)?;
        processes.check_ports()?;
        let making = Making {
            split_keys: landscape.split_keys(),
            replication_factor: REPLICATION_FACTOR,
            replace_after: REPLACE_AFTER,
        };
        bring_up(environment, &mut processes, &making).await?;
        let admin = AdminClient::new(environment, &endpoints, AdminOptions::default())?;
        set_policy(&admin, balancing, conditions.idle_permille).await?;
        let client = Client::connect(environment, &endpoints, Options::default()).await?;
        Ok(Self { processes, client })
    }

    /// Of the index nodes, in the sequence of their names.
    pub fn process_ids(&mut self) -> anyhow::Result<Vec<u32>> {
        let roles: Vec<_> = self.processes.layout().index_node_roles().collect();
        let id = |role| self.processes.process_id(role).with_context(|| format!("{role} is gone"));
        roles.into_iter().map(id).collect()
    }
}

async fn set_policy(
    admin: &AdminClient,
    balancing: Balancing,
    idle_permille: u64,
) -> anyhow::Result<()> {
    let policy = admin.get_policy(v1::GetPolicyRequest {}).await?.policy;
    let mut policy = policy.context("the zone has no policy")?;
    let balance = policy.balance.as_mut().context("its policy has no part for balance")?;
    balancing.write_into(balance);
    balance.idle_permille = Some(idle_permille);
    let request = v1::SetPolicyRequest {
        policy: Some(policy),
        reason: format!("benchmark: balancing {}", balancing.title()),
        ..Default::default()
    };
    admin.set_policy(request).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_is_without_any_change_and_soon_differs_in_one_field() {
        let made = v1::BalancePolicy { act_after_ms: Some(30_000), ..Default::default() };
        let with = |balancing: Balancing| {
            let mut policy = made;
            balancing.write_into(&mut policy);
            policy
        };
        assert_eq!(with(Balancing::On), made);
        assert_eq!(
            with(Balancing::Soon),
            v1::BalancePolicy { act_after_ms: Some(SOON_MS), ..made }
        );
        let policy = with(Balancing::Off);
        let budgets = (policy.transfers_max, policy.moves_zone_max, policy.splits_max);
        assert_eq!(budgets, (Some(0), Some(0), Some(0)));
    }
}
