//! One run: a zone is built, works while things go wrong, has to settle, and is checked.

use std::{collections::BTreeSet, ops::Range, time::Duration};

use crate::{
    ambush::Ambushes,
    board::{Board, Phase},
    calm,
    checks::Problem,
    coverage,
    faults::{Cast, Effect, Schedule, TimedFault},
    history::{Operation, Outcome},
    linearizability::{self, Verdict as Linearizability},
    report::{HARNESS, Report, Verdict},
    seed::Seed,
    trace::Trace,
    world::{World, WorldOptions},
    zone::{self, Zone, ZoneOptions},
};

/// What a run is made of, besides its seed.
#[derive(Clone, Debug)]
pub struct RunOptions {
    pub world: WorldOptions,
    pub zone: ZoneOptions,
    /// How long things go wrong.
    pub faults_for: Duration,
    /// What goes wrong when; none: what follows from the seed.
    pub schedule: Option<Schedule>,
    /// How long the zone may take until every partition is available for the first time.
    pub building_max: Duration,
    /// How long load may take to be spread, and is watched then.
    pub steady_max: Duration,
    /// How long it may take to be as it should be again, once nothing goes wrong any more.
    pub settling_max: Duration,
    /// How long reading everything once more may take.
    pub verifying_max: Duration,
    /// How many requests of clients may end without an answer; none: any number, since things go wrong.
    pub unanswered_max: Option<usize>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            world: WorldOptions::default(),
            zone: ZoneOptions::default(),
            faults_for: Duration::from_secs(20),
            schedule: None,
            building_max: Duration::from_secs(20),
            // A zone that begins with one hot partition splits it three times, and each half rests for half a minute.
            steady_max: Duration::from_secs(600),
            settling_max: Duration::from_secs(40),
            verifying_max: Duration::from_secs(20),
            unanswered_max: None,
        }
    }
}

/// Carries out the run that follows from `seed`. What it finds is in the report; the same seed and
/// options give the same report.
pub fn run(seed: Seed, options: &RunOptions, trace: &Trace) -> Report {
    let mut world = World::new(seed, &options.world, trace.clone());
    let zone = zone::build(&mut world, seed, &options.zone);
    let mut run = Run {
        world,
        zone,
        options,
        schedule: Schedule::default(),
        faults: 0,
        ambushes: Ambushes::default(),
        trace: trace.clone(),
        faulty: Duration::ZERO..Duration::ZERO,
    };
    let problem = run.carry_out(seed).err();
    let operations = run.zone.recorder.operations();
    let patient: Vec<Operation> =
        operations.iter().filter(|operation| zone::is_patient(operation.client)).cloned().collect();
    let problem = problem.or_else(|| calm::check(&patient, &run.calms()).err());
    let faults = &run.schedule.faults[..run.faults];
    let mut marks = trace.marks();
    marks.extend(coverage::of_faults(faults));
    marks.extend(coverage::of_history(&operations));
    let problem = problem.or_else(|| check_marks(&marks));
    // A wrong answer is worse than a zone that does not settle, and may be its cause.
    let problem = problem.or_else(|| too_many_unanswered(&patient, options.unanswered_max));
    let verdict = match (judge(&operations), problem) {
        (Verdict::Passed | Verdict::Undecided { .. }, Some(problem)) => Verdict::Violated(problem),
        (verdict, _) => verdict,
    };
    let count = |wanted: fn(&Outcome) -> bool| {
        operations.iter().filter(|operation| wanted(&operation.outcome)).count()
    };
    let (trace_hash, trace_lines) = trace.digest();
    Report {
        seed: seed.0,
        verdict,
        trace_hash: format!("{trace_hash:016x}"),
        trace_lines,
        zone: options.zone.to_string(),
        simulated_ms: u64::try_from(run.world.now().as_millis()).unwrap_or(u64::MAX),
        operations: operations.len(),
        unknown: count(|outcome| matches!(outcome, Outcome::Unknown)),
        refused: count(|outcome| matches!(outcome, Outcome::Refused { .. })),
        faults: faults.iter().map(TimedFault::to_string).collect(),
        marks,
        recent: trace.recent(),
    }
}

/// The list of marks stays true: nothing is reached that is not in it.
fn check_marks(reached: &BTreeSet<String>) -> Option<Problem> {
    let unlisted = coverage::unlisted(reached);
    (!unlisted.is_empty()).then(|| {
        Problem::new(HARNESS, "coverage marks were reached that the list of them does not hold")
            .with_details(unlisted.join("\n"))
    })
}

/// G6, of a schedule that leaves every partition a majority that can be reached: a client that tries for
/// ten seconds is answered.
fn too_many_unanswered(operations: &[Operation], most: Option<usize>) -> Option<Problem> {
    let is_unanswered = |operation: &&Operation| {
        matches!(operation.outcome, Outcome::Refused { .. } | Outcome::Unknown)
    };
    let unanswered: Vec<&Operation> = operations.iter().filter(is_unanswered).collect();
    let first = unanswered.first()?;
    (unanswered.len() > most?).then(|| {
        let sentence = format!("{} requests found no answer in time", unanswered.len());
        Problem::new("G6", sentence).with_details(first.to_string())
    })
}

/// The checks that need the whole history.
fn judge(operations: &[Operation]) -> Verdict {
    match linearizability::check(operations) {
        Linearizability::Linearizable => Verdict::Passed,
        Linearizability::NotLinearizable(counterexample) => Verdict::Violated(
            Problem::new("G3", "a key's history has no linearization")
                .with_details(counterexample.to_string()),
        ),
        Linearizability::Undecided { key } => {
            Verdict::Undecided { key: String::from_utf8_lossy(&key).into_owned() }
        }
    }
}

/// Whether a fault lies on the way between clients and index nodes, or between index nodes. Links with
/// members do not.
fn concerns_data(timed: &TimedFault, cast: &Cast) -> bool {
    let hosts = timed.fault.hosts();
    !timed.fault.is_of_leader()
        && !hosts.iter().any(|host| cast.members.iter().any(|member| member == host))
}

struct Run<'a> {
    world: World,
    zone: Zone,
    options: &'a RunOptions,
    schedule: Schedule,
    /// How many of the schedule's faults were applied.
    faults: usize,
    ambushes: Ambushes,
    trace: Trace,
    /// The time of the faults.
    faulty: Range<Duration>,
}

impl Run<'_> {
    fn carry_out(&mut self, seed: Seed) -> Result<(), Problem> {
        self.until("G9", self.options.building_max, Board::is_available)?;

        let start = self.world.now();
        let end = start + self.options.faults_for;
        self.faulty = start..end;
        self.schedule = match &self.options.schedule {
            Some(schedule) => schedule.clone(),
            None => Schedule::generate(seed, &self.zone.cast, start..end),
        };
        self.zone.board.enter(Phase::Faults);
        while self.world.now() < end {
            self.apply_due_faults();
            self.step()?;
        }
        self.apply_due_faults();

        self.ambushes.lift(&mut self.world);
        self.world.heal_everything();
        if self.options.zone.has_load() {
            self.zone.board.enter(Phase::Steady);
            self.until("G9", self.options.steady_max, Board::is_spread)?;
        }
        self.zone.board.enter(Phase::Settling);
        self.until("G9", self.options.settling_max, |board| {
            board.is_settled() && board.clients_working() == 0
        })?;

        self.zone.board.enter(Phase::Verifying);
        self.until("G9", self.options.verifying_max, Board::is_verified)
    }

    /// When, in the time of the faults, nothing was wrong on the way of the data.
    fn calms(&self) -> Vec<Range<Duration>> {
        let changes: Vec<(Duration, calm::Change)> = self
            .schedule
            .faults
            .iter()
            .filter(|timed| concerns_data(timed, &self.zone.cast))
            .filter_map(|timed| match timed.fault.effect() {
                Effect::Impairs => Some((timed.at, calm::Change::Begins)),
                Effect::Mends => Some((timed.at, calm::Change::Ends)),
                Effect::Passes => None,
            })
            .collect();
        calm::calms(&changes, self.faulty.clone())
    }

    fn apply_due_faults(&mut self) {
        while let Some(due) =
            self.schedule.faults.get(self.faults).filter(|fault| fault.at <= self.world.now())
        {
            due.fault.apply(&mut self.world, &mut self.ambushes, &self.trace);
            self.faults += 1;
        }
    }

    /// Steps until something is so, which it has to become within a time.
    fn until(
        &mut self,
        guarantee: &str,
        limit: Duration,
        reached: impl Fn(&Board) -> bool,
    ) -> Result<(), Problem> {
        let phase = self.zone.board.phase();
        let deadline = self.world.now() + limit;
        while !reached(&self.zone.board) {
            if self.world.now() > deadline {
                let waiting_for = self.zone.board.waiting_for();
                let working = self.zone.board.clients_working();
                return Err(Problem::new(
                    guarantee,
                    format!("after {limit:?} of phase {phase:?} still waiting for {waiting_for}"),
                )
                .with_details(format!("clients that have not ended their work: {working}")));
            }
            self.step()?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), Problem> {
        self.world
            .step()
            .map_err(|error| Problem::new(HARNESS, format!("a driver failed: {error:#}")))?;
        if let Some(ending) = self.world.take_endings().into_iter().next() {
            let how = ending.error.unwrap_or_else(|| "it said nothing was wrong".into());
            return Err(Problem::new(
                "G2",
                format!("{} stopped by itself at {:?}: {how}", ending.process, ending.at),
            ));
        }
        self.zone.witness.step_ended();
        self.ambushes.look(&mut self.world, &self.zone.witness, &self.trace);
        let problem = self.zone.witness.problem().or_else(|| self.zone.board.first_problem());
        problem.map_or(Ok(()), Err)
    }
}
