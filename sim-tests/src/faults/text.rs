//! Faults in words, as schedules and scenarios are written down.

use std::{fmt, str::FromStr, time::Duration};

use runtime::store::simulated::Side;

use super::{Fault, TimedFault};
use crate::{
    ambush::Ambush,
    gate::FrozenClock,
    world::{Crash, SeamCall},
};

fn side_word(side: Side) -> &'static str {
    match side {
        Side::Before => "before",
        Side::After => "after",
    }
}

fn call_word(call: SeamCall) -> &'static str {
    match call {
        SeamCall::Write => "write",
        SeamCall::Sync => "sync",
        SeamCall::Dial => "dial",
    }
}

fn crash_words(crash: Crash) -> &'static str {
    match crash {
        Crash::ProcessKilled => "kill",
        Crash::PowerLost => "power off",
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Crash { process, crash } => {
                write!(formatter, "{} {process}", crash_words(*crash))
            }
            Fault::CrashAtCall { process, crash, side, call, number } => {
                let (crash, side, call) = (crash_words(*crash), side_word(*side), call_word(*call));
                write!(formatter, "{crash} {process} {side} {call} {number}")
            }
            Fault::Restart { process } => write!(formatter, "restart {process}"),
            Fault::LoseLeader { ambush: Ambush { operation, crash, side, write } } => {
                let (crash, side) = (crash_words(*crash), side_word(*side));
                write!(formatter, "{crash} leader {side} write {write} of {operation}")
            }
            Fault::RestoreLeader => write!(formatter, "restart leader"),
            Fault::Freeze { process, clock: FrozenClock::GoesOn } => {
                write!(formatter, "freeze {process}")
            }
            Fault::Freeze { process, clock: FrozenClock::StandsStill } => {
                write!(formatter, "pause {process}")
            }
            Fault::Thaw { process } => write!(formatter, "thaw {process}"),
            Fault::Mute { process } => write!(formatter, "mute {process}"),
            Fault::Unmute { process } => write!(formatter, "unmute {process}"),
            Fault::JumbleOrders { process } => write!(formatter, "jumbled orders of {process}"),
            Fault::StraightenOrders { process } => {
                write!(formatter, "straight orders of {process}")
            }
            Fault::Cut { a, b } => write!(formatter, "cut {a} and {b}"),
            Fault::CutOneWay { from, to } => write!(formatter, "cut from {from} to {to}"),
            Fault::Hold { a, b } => write!(formatter, "hold {a} and {b}"),
            Fault::SlowLink { a, b } => write!(formatter, "slow link of {a} and {b}"),
            Fault::Heal { a, b } => write!(formatter, "heal {a} and {b}"),
            Fault::Isolate { host } => write!(formatter, "isolate {host}"),
            Fault::SlowLinksOf { host } => write!(formatter, "slow links of {host}"),
            Fault::Rejoin { host } => write!(formatter, "rejoin {host}"),
            Fault::SlowNetwork => write!(formatter, "slow network"),
            Fault::QuickenNetwork => write!(formatter, "fast network"),
            Fault::SlowDisk { process } => write!(formatter, "slow disk of {process}"),
            Fault::StallDisk { process } => write!(formatter, "stalled disk of {process}"),
            Fault::BreakDisk { process } => write!(formatter, "broken disk of {process}"),
            Fault::FillDisk { process } => write!(formatter, "full disk of {process}"),
            Fault::LowDisk { process } => write!(formatter, "low disk of {process}"),
            Fault::CorruptDisk { process } => write!(formatter, "corrupted disk of {process}"),
            Fault::MendDisk { process } => write!(formatter, "mended disk of {process}"),
            Fault::WipeDisk { process } => write!(formatter, "wiped disk of {process}"),
            Fault::CopyDisk { process } => write!(formatter, "copied disk of {process}"),
            Fault::RestoreDisk { process } => write!(formatter, "old disk of {process}"),
            Fault::JumpWallClock { process, seconds } => {
                write!(formatter, "wall clock of {process} jumps by {seconds} s")
            }
        }
    }
}

fn side(word: &str) -> Option<Side> {
    [Side::Before, Side::After].into_iter().find(|side| side_word(*side) == word)
}

/// A leader's crash in the middle of an operation: the words after the leader.
fn in_operation(crash: Crash, words: &[&str]) -> Option<Fault> {
    let [when, "write", number, "of", operation] = words else { return None };
    let write = number.parse().ok().filter(|number| *number > 0)?;
    let operation = operation.parse().ok()?;
    Some(Fault::LoseLeader { ambush: Ambush { operation, crash, side: side(when)?, write } })
}

/// A crash at a call: the words after the crash's own.
fn at_call(crash: Crash, words: &[&str]) -> Option<Fault> {
    let [process, when, call, number] = words else { return None };
    let side = side(when)?;
    let call = match *call {
        "write" => SeamCall::Write,
        "sync" => SeamCall::Sync,
        "dial" => SeamCall::Dial,
        _ => return None,
    };
    let number = number.parse().ok().filter(|number| *number > 0)?;
    Some(Fault::CrashAtCall { process: (*process).to_owned(), crash, side, call, number })
}

fn crash(crash: Crash, words: &[&str]) -> Option<Fault> {
    match words {
        ["leader"] => None,
        ["leader", rest @ ..] => in_operation(crash, rest),
        [process] => Some(Fault::Crash { process: (*process).to_owned(), crash }),
        _ => at_call(crash, words),
    }
}

fn of_words(words: &[&str]) -> Option<Fault> {
    let own = |word: &str| word.to_owned();
    let fault = match words {
        ["kill", rest @ ..] => return crash(Crash::ProcessKilled, rest),
        ["power", "off", rest @ ..] => return crash(Crash::PowerLost, rest),
        ["restart", "leader"] => Fault::RestoreLeader,
        ["jumbled", "orders", "of", process] => Fault::JumbleOrders { process: own(process) },
        ["straight", "orders", "of", process] => Fault::StraightenOrders { process: own(process) },
        ["restart", process] => Fault::Restart { process: own(process) },
        ["freeze", process] => Fault::Freeze { process: own(process), clock: FrozenClock::GoesOn },
        ["pause", process] => {
            Fault::Freeze { process: own(process), clock: FrozenClock::StandsStill }
        }
        ["thaw", process] => Fault::Thaw { process: own(process) },
        ["mute", process] => Fault::Mute { process: own(process) },
        ["unmute", process] => Fault::Unmute { process: own(process) },
        ["cut", "from", from, "to", to] => Fault::CutOneWay { from: own(from), to: own(to) },
        ["cut", a, "and", b] => Fault::Cut { a: own(a), b: own(b) },
        ["hold", a, "and", b] => Fault::Hold { a: own(a), b: own(b) },
        ["slow", "link", "of", a, "and", b] => Fault::SlowLink { a: own(a), b: own(b) },
        ["heal", a, "and", b] => Fault::Heal { a: own(a), b: own(b) },
        ["isolate", host] => Fault::Isolate { host: own(host) },
        ["slow", "links", "of", host] => Fault::SlowLinksOf { host: own(host) },
        ["rejoin", host] => Fault::Rejoin { host: own(host) },
        ["slow", "network"] => Fault::SlowNetwork,
        ["fast", "network"] => Fault::QuickenNetwork,
        ["slow", "disk", "of", process] => Fault::SlowDisk { process: own(process) },
        ["stalled", "disk", "of", process] => Fault::StallDisk { process: own(process) },
        ["broken", "disk", "of", process] => Fault::BreakDisk { process: own(process) },
        ["full", "disk", "of", process] => Fault::FillDisk { process: own(process) },
        ["low", "disk", "of", process] => Fault::LowDisk { process: own(process) },
        ["corrupted", "disk", "of", process] => Fault::CorruptDisk { process: own(process) },
        ["mended", "disk", "of", process] => Fault::MendDisk { process: own(process) },
        ["wiped", "disk", "of", process] => Fault::WipeDisk { process: own(process) },
        ["copied", "disk", "of", process] => Fault::CopyDisk { process: own(process) },
        ["old", "disk", "of", process] => Fault::RestoreDisk { process: own(process) },
        ["wall", "clock", "of", process, "jumps", "by", seconds, "s"] => {
            Fault::JumpWallClock { process: own(process), seconds: seconds.parse().ok()? }
        }
        _ => return None,
    };
    Some(fault)
}

impl FromStr for Fault {
    type Err = String;

    /// The fault whose words these are.
    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        of_words(&words).ok_or_else(|| {
            format!(
                "{text:?} is no fault; one is for example \"kill node-1\", \"power off node-1\", \
                 \"kill node-1 before write 17\", \"power off member-1 after sync 3\", \
                 \"kill leader after write 2 of drain\", \"restart leader\", \
                 \"restart node-1\", \"freeze node-1\", \"pause node-1\", \"thaw node-1\", \
                 \"mute node-1\", \"unmute node-1\", \"jumbled orders of node-1\", \
                 \"straight orders of node-1\", \"cut node-1 and node-2\", \
                 \"cut from node-1 to node-2\", \"hold node-1 and node-2\", \
                 \"slow link of node-1 and node-2\", \"heal node-1 and node-2\", \
                 \"isolate node-1\", \"slow links of node-1\", \"rejoin node-1\", \
                 \"slow network\", \"fast network\", \"slow disk of node-1\" (or stalled, \
                 broken, full, low, corrupted, wiped), \"mended disk of node-1\" or \
                 \"wall clock of node-1 jumps by -7200 s\""
            )
        })
    }
}

/// The time that a line begins with, for example `4.769 s  cut node-2 and member-2`, and the rest of it.
///
/// # Errors
/// If it begins with none.
pub fn timed(text: &str) -> Result<(Duration, &str), String> {
    let shape = || format!("{text:?} does not start with a time, for example \"4.769 s\"");
    let (seconds, rest) = text.trim().split_once(char::is_whitespace).ok_or_else(shape)?;
    let what = rest.trim_start().strip_prefix("s ").ok_or_else(shape)?;
    let seconds: f64 = seconds.parse().map_err(|_| shape())?;
    let at = Duration::try_from_secs_f64(seconds).map_err(|_| shape())?;
    // As it is written: to the millisecond.
    let at =
        Duration::from_millis((at.as_micros().div_ceil(500) / 2).try_into().map_err(|_| shape())?);
    Ok((at, what.trim()))
}

impl FromStr for TimedFault {
    type Err = String;

    /// A time and a fault, for example `4.769 s  cut node-2 and member-2`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (at, fault) = timed(text)?;
        Ok(Self { at, fault: fault.parse()? })
    }
}

impl fmt::Display for TimedFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:>9.3} s  {}", self.at.as_secs_f64(), self.fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_never_drawn_can_be_read_too() {
        for text in [
            "copied disk of node-1",
            "old disk of node-1",
            "power off leader after write 12 of takeover",
        ] {
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_fault_is_refused() {
        for text in [
            "kill",
            "kill node-1 before write",
            "kill node-1 before write 0",
            "kill node-1 at write 3",
            "kill leader",
            "kill leader before write 0 of drain",
            "kill leader before sync 1 of drain",
            "kill leader before write 1 of tea",
            "power node-1",
            "wiped disk",
            "wall clock of node-1 jumps by noon s",
            "slow link of node-1",
        ] {
            assert!(text.parse::<Fault>().is_err(), "{text}");
        }
    }
}
