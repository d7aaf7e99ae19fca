//! A zone whose processes speak TLS, and `zonectl` with and without it.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use zonectl::zone_process::Role;

use crate::support::{program::Zonectl, zone::TestZone};

struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What a process, or a command, needs for TLS.
struct Files {
    authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(parameters, key).unwrap())
    }

    /// A certificate for processes of this machine, and for who calls them.
    fn issue(&self, directory: &Path, name: &str) -> Files {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
        let certificate = parameters.signed_by(&key, &self.0).unwrap();
        let write = |kind: &str, text: String| {
            let path = directory.join(format!("{name}.{kind}.pem"));
            std::fs::write(&path, text).unwrap();
            path
        };
        Files {
            authority: write("authority", self.0.pem()),
            certificate: write("certificate", certificate.pem()),
            key: write("key", key.serialize_pem()),
        }
    }
}

impl Files {
    /// For a server's configuration.
    fn table(&self) -> String {
        format!(
            "[tls]\nauthority = {:?}\ncertificate = {:?}\nkey = {:?}\n",
            self.authority, self.certificate, self.key
        )
    }

    fn flags(&self) -> [&str; 6] {
        [
            "--tls-ca",
            self.authority.to_str().unwrap(),
            "--tls-certificate",
            self.certificate.to_str().unwrap(),
            "--tls-key",
            self.key.to_str().unwrap(),
        ]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_with_tls_is_for_those_with_its_certificates() {
    let directory = TempDir::new().unwrap();
    let authority = Authority::new();
    let servers = authority.issue(directory.path(), "servers");
    let operator = authority.issue(directory.path(), "operator");
    let stranger = Authority::new().issue(directory.path(), "stranger");
    let table = servers.table();
    let mut zone = TestZone::prepare_with(1, 3, &table, &table).await;
    zone.processes.start(Role::Member(0)).unwrap();
    let plain = Zonectl::new(&zone.endpoints());
    let zonectl = Zonectl::new(&zone.endpoints()).with(&operator.flags());

    zonectl.json(&["init", "--partitions", "4"]).await;
    zone.processes.start_all().unwrap();
    let status = zonectl.json(&["status", "--wait-healthy", "60s"]).await;
    assert_eq!((&status["healthy"], &status["from_leader"]), (&true.into(), &true.into()));
    assert_eq!(status["nodes"].as_array().unwrap().len(), 3);
    zonectl.text(&["put", "key", "--payload", "behind TLS"]).await;
    assert_eq!(zonectl.json(&["get", "key"]).await["user_payload"], "behind TLS");
    assert_eq!(zonectl.json(&["list"]).await["items"].as_array().unwrap().len(), 1);
    let load = ["load", "--rate", "50", "--duration", "1s", "--keys", "20", "--verify"];
    assert_eq!(zonectl.json(&load).await["verification"]["passed"], true);
    assert_eq!(zonectl.json(&["delete", "key"]).await["existed"], true);
    assert!(zonectl.json_lines(&["events"]).await.len() > 3);
    let drain = zonectl.run(&["partition", "transfer-leader", "1", "--to", "nobody"]).await;
    drain.refused(1, &["\"nobody\""]);

    // The same by variables.
    let mut by_variables = plain.command(&["status"]);
    by_variables
        .env("ZONECTL_TLS_CA", &operator.authority)
        .env("ZONECTL_TLS_CERTIFICATE", &operator.certificate)
        .env("ZONECTL_TLS_KEY", &operator.key);
    let ended = crate::support::program::run(&mut by_variables).await;
    assert!(ended.text().starts_with("HEALTHY"), "{ended:?}");

    // In plain text, and in plain words.
    for verb in [&["status"][..], &["node", "list"], &["get", "key"], &["list"], &load] {
        plain.run(verb).await.refused(3, &["use TLS: give --tls-ca", "ZONECTL_TLS_KEY"]);
    }
    // With an authority that has signed nothing here.
    let elsewhere = Zonectl::new(&zone.endpoints()).with(&stranger.flags());
    for verb in [&["status"][..], &["get", "key"]] {
        elsewhere.run(verb).await.refused(3, &["not signed by the authority of --tls-ca"]);
    }
    // With a certificate that somebody else has signed.
    let forged = Files { authority: operator.authority.clone(), ..stranger };
    let forged = Zonectl::new(&zone.endpoints()).with(&forged.flags());
    for verb in [&["status", "--deadline", "3s"][..], &["get", "key"]] {
        forged.run(verb).await.refused(3, &["the certificate of --tls-certificate signed by"]);
    }
    let half = plain.run(&["status", "--tls-ca", operator.flags()[1]]).await;
    half.refused(2, &["--tls-certificate", "--tls-key"]);
    let mut missing = operator.flags();
    missing[5] = "/nonexistent/key.pem";
    let missing = Zonectl::new(&zone.endpoints()).with(&missing);
    for verb in [&["status"][..], &["get", "key"]] {
        missing.run(verb).await.refused(1, &["/nonexistent/key.pem", "No such file"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_without_tls_says_that_it_has_none() {
    let directory = TempDir::new().unwrap();
    let operator = Authority::new().issue(directory.path(), "operator");
    let zone = crate::support::shared::shared().await;
    let zonectl = Zonectl::new(&zone.endpoints()).with(&operator.flags());
    for verb in [&["status"][..], &["get", "key"]] {
        zonectl.run(verb).await.refused(3, &["do not use TLS: leave out --tls-ca"]);
    }
}
