//! How even the planner makes zones, how fast, and at the cost of how much movement; beside each figure what
//! others have published, or a bound.
//!
//! ```sh
//! cargo run -p model --example balance              # everything
//! cargo run -p model --example balance -- scale     # one of scenarios, chaos, scale
//! ```
//!
//! The zones are models: reports are late, transfers and moves take time, and moves cost processor time at
//! both ends. The planner in them is `model::balance`, unchanged.

mod bounds;
mod chaos;
mod scale;
mod scenarios;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    let parts: [(&str, fn()); 3] =
        [("scenarios", scenarios::run), ("chaos", chaos::run), ("scale", scale::run)];
    let wanted = std::env::args().nth(1);
    if let Some(wanted) = &wanted
        && !parts.iter().any(|(name, _)| name == wanted)
    {
        eprintln!("{wanted}: there is no such part; there are scenarios, chaos and scale");
        return ExitCode::FAILURE;
    }
    for (name, run) in parts {
        if wanted.as_ref().is_none_or(|wanted| wanted == name) {
            run();
            println!();
        }
    }
    ExitCode::SUCCESS
}
