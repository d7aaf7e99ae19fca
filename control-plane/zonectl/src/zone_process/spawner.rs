//! Starts processes from one thread that lives as long as this process.
//!
//! On Linux a child can ask for a signal when its parent dies, but that means the *thread* that started
//! it. A thread of an executor, or of a test, may end long before this process does; this one does not.

use std::{
    io,
    process::{Child, Command},
    sync::{
        Mutex, OnceLock, PoisonError,
        mpsc::{Sender, channel},
    },
    thread,
};

struct Job {
    command: Command,
    reply: Sender<io::Result<Child>>,
}

static SPAWNER: OnceLock<Mutex<Option<Sender<Job>>>> = OnceLock::new();

fn stopped() -> io::Error {
    io::Error::other("the thread that starts processes has stopped")
}

/// Starts the command in a process group of its own; it dies with this process.
///
/// # Errors
/// If it cannot be started.
pub fn spawn(mut command: Command) -> io::Result<Child> {
    separate(&mut command);
    let (reply, answer) = channel();
    let mut jobs =
        SPAWNER.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let sender = match &*jobs {
        Some(sender) => sender.clone(),
        None => {
            let sender = start_thread()?;
            *jobs = Some(sender.clone());
            sender
        }
    };
    drop(jobs);
    sender.send(Job { command, reply }).map_err(|_| stopped())?;
    answer.recv().map_err(|_| stopped())?
}

fn start_thread() -> io::Result<Sender<Job>> {
    let (sender, jobs) = channel::<Job>();
    thread::Builder::new().name("spawner".into()).spawn(move || {
        for Job { mut command, reply } in jobs {
            let child = command.spawn();
            if let Err(unwanted) = reply.send(child)
                && let Ok(mut child) = unwanted.0
            {
                // Nobody is there to look after it.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    })?;
    Ok(sender)
}

#[cfg(target_os = "linux")]
fn separate(command: &mut Command) {
    use std::os::unix::process::CommandExt;

    use nix::{sys::prctl, sys::signal::Signal, unistd::getppid};

    let parent = nix::unistd::getpid();
    command.process_group(0);
    // Between fork and exec only calls are allowed that are safe in a signal handler. These two are:
    // each is one system call, and nothing allocates.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(move || {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            // If this process died before the call above, nobody will send the signal any more.
            if getppid() == parent { Ok(()) } else { Err(io::ErrorKind::Interrupted.into()) }
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn separate(command: &mut Command) {
    use std::os::unix::process::CommandExt;

    command.process_group(0);
}
