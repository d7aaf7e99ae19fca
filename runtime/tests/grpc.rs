//! Servers and channels over the production seams, on loopback.

use std::{fs, time::Duration};

use runtime::{
    grpc::{ChannelOptions, Channels, ServerOptions, TlsFiles, serve},
    seams::Environment,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use tonic::{Code, service::Routes};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

struct Server {
    address: String,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start(environment: &Environment, tls: Option<TlsFiles>) -> Self {
        let listener = environment.network.listen("127.0.0.1:0").await.unwrap();
        let port = listener.local_address().unwrap().port();
        let stop = CancellationToken::new();
        let options = ServerOptions { tls, ..ServerOptions::default() };
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            serve(listener, Routes::default(), &options, stopped).await.unwrap();
        });
        Self { address: format!("localhost:{port}"), stop, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

async fn check(channels: &Channels, address: &str) -> Result<i32, tonic::Status> {
    let mut client = HealthClient::new(channels.get(address));
    let request = HealthCheckRequest { service: String::new() };
    client.check(request).await.map(|response| response.into_inner().status)
}

fn authority() -> rcgen::CertifiedIssuer<'static, rcgen::KeyPair> {
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    rcgen::CertifiedIssuer::self_signed(parameters, rcgen::KeyPair::generate().unwrap()).unwrap()
}

fn tls_files(
    directory: &TempDir,
    authority: &rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
    name: &str,
) -> TlsFiles {
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
    let certificate = parameters.signed_by(&key, authority).unwrap();
    let write = |kind: &str, text: String| {
        let path = directory.path().join(format!("{name}.{kind}.pem"));
        fs::write(&path, text).unwrap();
        path
    };
    TlsFiles {
        authority: write("authority", authority.pem()),
        certificate: write("certificate", certificate.pem()),
        key: write("key", key.serialize_pem()),
    }
}

#[tokio::test]
async fn health_is_served_and_a_channel_survives_a_restart_of_the_server() {
    let environment = Environment::production();
    let channels = Channels::new(&environment, ChannelOptions::default()).unwrap();
    let server = Server::start(&environment, None).await;
    let address = server.address.clone();
    assert_eq!(check(&channels, &address).await.unwrap(), ServingStatus::Serving as i32);

    server.stop().await;
    let error = check(&channels, &address).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");

    let listener = environment.network.listen(&address).await.unwrap();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let task = tokio::spawn(async move {
        serve(listener, Routes::default(), &ServerOptions::default(), stopped).await
    });
    assert_eq!(check(&channels, &address).await.unwrap(), ServingStatus::Serving as i32);
    stop.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn garbage_on_the_port_harms_nobody_else() {
    let environment = Environment::production();
    let channels = Channels::new(&environment, ChannelOptions::default()).unwrap();
    let server = Server::start(&environment, None).await;
    for garbage in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4_096], b"", b"PRI * HTTP/2.0\r\n\r\nSM"]
    {
        let mut connection = environment.network.connect(&server.address).await.unwrap();
        // The server may close while we write.
        let _ = connection.write_all(garbage).await;
        let _ = connection.shutdown().await;
        let mut answer = Vec::new();
        let read = connection.read_to_end(&mut answer);
        let ended = environment.timeout(Duration::from_secs(20), read).await;
        assert!(ended.is_some(), "the connection was left open after {garbage:?}");
    }
    let status = check(&channels, &server.address).await.unwrap();
    assert_eq!(status, ServingStatus::Serving as i32);
    server.stop().await;
}

#[tokio::test]
async fn with_tls_only_the_zones_own_are_let_in() {
    let environment = Environment::production();
    let directory = TempDir::new().unwrap();
    let (ours, theirs) = (authority(), authority());
    let server = Server::start(&environment, Some(tls_files(&directory, &ours, "server"))).await;

    let channels = |tls: Option<TlsFiles>| {
        let options = ChannelOptions { tls, ..ChannelOptions::default() };
        Channels::new(&environment, options).unwrap()
    };
    let friend = channels(Some(tls_files(&directory, &ours, "friend")));
    let status = check(&friend, &server.address).await.unwrap();
    assert_eq!(status, ServingStatus::Serving as i32);

    let mut stranger = tls_files(&directory, &theirs, "stranger");
    stranger.authority = tls_files(&directory, &ours, "trust").authority;
    assert!(check(&channels(Some(stranger)), &server.address).await.is_err());
    assert!(check(&channels(None), &server.address).await.is_err());

    let missing = TlsFiles {
        authority: "missing.pem".into(),
        certificate: "missing.pem".into(),
        key: "missing.pem".into(),
    };
    let options = ChannelOptions { tls: Some(missing), ..ChannelOptions::default() };
    let error = Channels::new(&environment, options).err().unwrap().to_string();
    assert!(error.contains("missing.pem"), "{error}");
    server.stop().await;
}
