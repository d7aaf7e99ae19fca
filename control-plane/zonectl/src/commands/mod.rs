//! One function for each verb.

mod apply;
mod brake;
mod events;
mod explain;
mod heat;
mod init;
mod load;
mod node;
mod objects;
mod operation;
mod partition;
mod plan;
mod policy;
mod snapshot;
mod split_keys;
mod status;

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::CommandFactory;
use client::{AdminClient, AdminOptions, Client, Options};
use proto::v1;
use runtime::{grpc::ChannelOptions, seams::Environment};
use serde::Serialize;

pub use split_keys::{even_split_keys, read_split_keys, split_keys};
pub use status::wait_healthy;

use crate::{
    arguments::{Arguments, DevVerb, Global, OutputFormat, Verb},
    demo, dev, diagnosis,
    failure::Failure,
};

/// What every command works with.
pub struct Context {
    pub environment: Environment,
    pub global: Global,
    /// With TLS, if the command line says so.
    pub channels: ChannelOptions,
}

/// How long the data commands look for a partition map before they give up.
const CONNECT_DEADLINE_MAX: Duration = Duration::from_secs(3);

impl Context {
    /// # Errors
    /// If the command line says only half of what TLS needs.
    pub fn new(global: Global) -> Result<Self, Failure> {
        let tls = global.tls.files().map_err(Failure::Usage)?;
        let channels = ChannelOptions { tls, ..ChannelOptions::default() };
        Ok(Self { environment: Environment::production(), global, channels })
    }

    /// A client for the operator's commands.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn admin(&self) -> Result<AdminClient, Failure> {
        let options = AdminOptions {
            deadline: self.global.deadline,
            channels: self.channels.clone(),
            ..AdminOptions::default()
        };
        Ok(AdminClient::new(&self.environment, &self.global.endpoints, options)?)
    }

    /// How the data commands' clients behave.
    pub fn client_options(&self) -> Options {
        Options {
            deadline: self.global.deadline,
            connect_deadline: self.global.deadline.min(CONNECT_DEADLINE_MAX),
            channels: self.channels.clone(),
            ..Options::default()
        }
    }

    /// A client for keys of the index.
    ///
    /// # Errors
    /// If no member gives a partition map.
    pub async fn client(&self) -> Result<Client, Failure> {
        let options = self.client_options();
        Ok(Client::connect(&self.environment, &self.global.endpoints, options).await?)
    }

    /// Shows a result: as one JSON document, or as `table` makes it.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn show<T: Serialize>(
        &self,
        form: &T,
        table: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        match self.global.output {
            OutputFormat::Table => print_line(&table(form)),
            OutputFormat::Json => print_line(&json(form, true)?),
        }
    }

    /// Shows one of many results: as one line of JSON, or as `line` makes it.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn show_line<T: Serialize>(
        &self,
        form: &T,
        line: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        match self.global.output {
            OutputFormat::Table => print_line(&line(form)),
            OutputFormat::Json => print_line(&json(form, false)?),
        }
    }
}

fn json<T: Serialize>(form: &T, pretty: bool) -> Result<String, Failure> {
    let text =
        if pretty { serde_json::to_string_pretty(form) } else { serde_json::to_string(form) };
    text.map_err(|error| Failure::Command(format!("the result cannot be shown as JSON: {error}")))
}

/// # Errors
/// If standard output cannot be written to.
pub fn print_line(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    writeln!(output, "{text}").and_then(|()| output.flush()).map_err(Failure::output)
}

/// A node by its id or its name.
fn node_reference(text: &str) -> Option<v1::NodeReference> {
    let reference = match text.parse() {
        Ok(id) => v1::NodeReference { id, name: String::new() },
        Err(_) => v1::NodeReference { id: 0, name: text.to_owned() },
    };
    Some(reference)
}

/// Carries the command out.
///
/// # Errors
/// In plain words, with the exit code.
pub async fn dispatch(arguments: Arguments) -> Result<(), Failure> {
    let context = Context::new(arguments.global)?;
    if context.global.deadline.is_zero() {
        return Err(Failure::Usage("--deadline is 0; it must be more than that".into()));
    }
    match carry_out(&context, arguments.verb).await {
        Err(failure) => {
            let Context { environment, global, channels } = &context;
            let tls = channels.tls.is_some();
            Err(diagnosis::explain(environment, &global.endpoints, tls, failure).await)
        }
        done => done,
    }
}

async fn carry_out(context: &Context, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Init(arguments) => init::run(context, arguments).await,
        Verb::Status(arguments) => status::run(context, &arguments).await,
        Verb::Node(verb) => node::run(context, verb).await,
        Verb::Explain(verb) => explain::run(context, verb).await,
        Verb::Heat(arguments) => heat::run(context, &arguments).await,
        Verb::Partition(verb) => partition::run(context, verb).await,
        Verb::Plan(arguments) => plan::run(context, arguments).await,
        Verb::Apply(arguments) => apply::apply(context, &arguments).await,
        Verb::Snapshot(verb) => snapshot::run(context, verb).await,
        Verb::Rebalance(arguments) => apply::rebalance(context, &arguments).await,
        Verb::Operation(verb) => operation::run(context, verb).await,
        Verb::Brake(verb) => brake::run(context, verb).await,
        Verb::Policy(verb) => policy::run(context, verb).await,
        Verb::Events(arguments) => events::run(context, &arguments).await,
        Verb::Put(arguments) => objects::put(context, arguments).await,
        Verb::Get(arguments) => objects::get(context, &arguments).await,
        Verb::Delete(arguments) => objects::delete(context, &arguments).await,
        Verb::List(arguments) => objects::list(context, &arguments).await,
        Verb::Dev(DevVerb::Up(arguments)) => dev::up(context, &arguments).await,
        Verb::Demo(arguments) => demo::run(context, &arguments).await,
        Verb::Load(arguments) => load::run(context, &arguments).await,
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "zonectl", &mut script);
            io::stdout().lock().write_all(&script).map_err(Failure::output)
        }
    }
}
