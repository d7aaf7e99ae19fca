mod zone;
use index_node::configuration::RaftSettings;
use proto::v1::{EnsureReplica, KeyRange, Order, ReplicaPlacement, order::Kind};
use std::time::{Duration, Instant};
use zone::{clients::Clients, control_plane::ControlPlane, eventually, node::TestNode};
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load() {
    let cp = ControlPlane::start(5).await;
    let mut nodes = vec![];
    for i in 1..=3u64 {
        nodes.push(
            TestNode::start_with(&format!("n{i}"), &cp.address, RaftSettings::default()).await,
        );
        eventually("s", async || cp.is_in_session(i).then_some(())).await;
    }
    let parts: u64 = 9;
    for p in 1..=parts {
        for n in 1..=3u64 {
            let e = EnsureReplica {
                range: Some(KeyRange::default()),
                range_epoch: 1,
                founders: (1..=3)
                    .map(|m| ReplicaPlacement { replica_id: p * 10 + m, node_id: m })
                    .collect(),
                campaign: (p % 3) + 1 == n,
            };
            cp.order(
                n,
                cp.fence(1),
                vec![Order {
                    partition_id: p,
                    replica_id: p * 10 + n,
                    membership_log: None,
                    kind: Some(Kind::Ensure(e)),
                }],
            )
            .await;
        }
    }
    for p in 1..=parts {
        eventually("leader", async || cp.leader(p)).await;
    }
    for writers in [1usize, 16, 128, 512] {
        let t = Instant::now();
        let until = t + Duration::from_secs(4);
        let mut js = vec![];
        for w in 0..writers {
            let cp = cp.clone();
            let addrs: Vec<String> = nodes.iter().map(|n| n.address().to_owned()).collect();
            js.push(tokio::spawn(async move {
                let mut c = Clients::new();
                let p = (w as u64 % 9) + 1;
                let (_, node) = cp.leader(p).unwrap();
                let a = addrs[node as usize - 1].clone();
                let mut n = 0u64;
                let mut l = vec![];
                let mut err = 0;
                while Instant::now() < until {
                    let mut id = [0u8; 16];
                    id[..8].copy_from_slice(&(w as u64).to_le_bytes());
                    id[8..].copy_from_slice(&n.to_le_bytes());
                    id[15] = writers as u8;
                    let s = Instant::now();
                    match c.put_at(&a, p, &format!("k{w}-{}", n % 1000), &"v".repeat(200), id).await
                    {
                        Ok(_) => l.push(s.elapsed()),
                        Err(e) => {
                            err += 1;
                            if err < 3 {
                                eprintln!("{e}");
                            }
                        }
                    }
                    n += 1;
                }
                (l, err)
            }));
        }
        let mut l = vec![];
        let mut errs = 0;
        for j in js {
            let x = j.await.unwrap();
            l.extend(x.0);
            errs += x.1;
        }
        l.sort();
        let q = |p: f64| l[((l.len() - 1) as f64 * p) as usize];
        let cpu = std::fs::read_to_string("/proc/self/stat").unwrap();
        let v: Vec<&str> = cpu.rsplit(')').next().unwrap().split_whitespace().collect();
        eprintln!(
            "LOAD writers {writers}: {:.0}/s p50 {:?} p99 {:?} max {:?} errors {errs} cpu ticks {} {}",
            l.len() as f64 / t.elapsed().as_secs_f64(),
            q(0.5),
            q(0.99),
            q(1.0),
            v[11],
            v[12]
        );
    }
}
