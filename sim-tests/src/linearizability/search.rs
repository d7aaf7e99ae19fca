//! The search for a linearization of one key's operations.

use std::collections::HashSet;

use super::register::Register;
use crate::history::{Call, Operation, Outcome};

/// A set of small numbers. Compares equal whatever its capacity once was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct NumberSet {
    words: Vec<u64>,
}

impl NumberSet {
    fn contains(&self, number: usize) -> bool {
        self.words.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    fn insert(&mut self, number: usize) {
        let word = number / 64;
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (number % 64);
    }

    fn remove(&mut self, number: usize) {
        if let Some(word) = self.words.get_mut(number / 64) {
            *word &= !(1 << (number % 64));
        }
        while self.words.last() == Some(&0) {
            self.words.pop();
        }
    }
}

/// An operation that can be taken next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Candidate {
    /// Index into the answered operations.
    Answered(usize),
    /// Index into the unanswered ones.
    Unanswered(usize),
}

/// Which operations were taken, and what they led to. Which of the answered operations before `lowest`
/// were taken need not be kept: all.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Configuration {
    lowest: usize,
    /// Taken ones from `lowest` on, relative to it.
    answered: NumberSet,
    unanswered: NumberSet,
    register: Register,
}

/// One step of the sequence under construction.
struct Step {
    /// What could be taken here, likeliest last.
    candidates: Vec<Candidate>,
    /// How to go back: what was taken to come here, the register and `lowest` before.
    undo: Option<(Candidate, Register, usize)>,
}

pub(super) enum Found<'a> {
    /// All answered operations fit into one sequence.
    Sequence,
    /// No sequence exists; the longest one took so many, reached this, and could not take that.
    Nothing {
        explained: usize,
        reached: Register,
        stuck_at: &'a Operation,
    },
    GaveUp,
}

pub(super) struct Search<'a> {
    /// By invocation.
    answered: Vec<&'a Operation>,
    /// By invocation.
    unanswered: Vec<&'a Operation>,
    configurations_max: usize,
    /// The first answered operation that is not taken.
    lowest: usize,
    answered_taken: NumberSet,
    unanswered_taken: NumberSet,
    taken: usize,
    register: Register,
    /// Only asked whether it contains, never iterated.
    seen: HashSet<Configuration>,
    deepest: Option<(usize, Register, usize)>,
}

impl<'a> Search<'a> {
    pub(super) fn new(mut operations: Vec<&'a Operation>, configurations_max: usize) -> Self {
        operations.sort_by_key(|operation| operation.invoked);
        // What was never answered and cannot be seen needs no place in the sequence.
        operations.retain(|operation| {
            !(operation.call == Call::Get && operation.outcome == Outcome::Unknown)
        });
        let (unanswered, answered) =
            operations.into_iter().partition(|operation| operation.outcome == Outcome::Unknown);
        Self {
            answered,
            unanswered,
            configurations_max,
            lowest: 0,
            answered_taken: NumberSet::default(),
            unanswered_taken: NumberSet::default(),
            taken: 0,
            register: Register::EMPTY,
            seen: HashSet::new(),
            deepest: None,
        }
    }

    pub(super) fn run(mut self) -> Found<'a> {
        let mut steps = vec![Step { candidates: self.candidates(), undo: None }];
        loop {
            if self.taken == self.answered.len() {
                return Found::Sequence;
            }
            let step = steps.last_mut().expect("the first step is left only by returning");
            let Some(candidate) = step.candidates.pop() else {
                match step.undo {
                    Some((candidate, register, lowest)) => {
                        self.put_back(candidate, register, lowest);
                        steps.pop();
                        continue;
                    }
                    None => return self.nothing(),
                }
            };
            let Some(register) = self.register.after(self.operation(candidate)) else { continue };
            let before = (candidate, self.register, self.lowest);
            self.take(candidate, register);
            if !self.is_new() {
                let (candidate, register, lowest) = before;
                self.put_back(candidate, register, lowest);
                continue;
            }
            if self.seen.len() > self.configurations_max {
                return Found::GaveUp;
            }
            steps.push(Step { candidates: self.candidates(), undo: Some(before) });
        }
    }

    fn operation(&self, candidate: Candidate) -> &'a Operation {
        match candidate {
            Candidate::Answered(index) => self.answered[index],
            Candidate::Unanswered(index) => self.unanswered[index],
        }
    }

    /// The sequence number of the first response among the answered operations that are not taken:
    /// nothing that was invoked after it can come before it.
    fn first_response(&self) -> Option<(u64, usize)> {
        let mut first: Option<(u64, usize)> = None;
        for (index, operation) in self.answered.iter().enumerate().skip(self.lowest) {
            if first.is_some_and(|(response, _)| operation.invoked.sequence > response) {
                break;
            }
            if !self.answered_taken.contains(index) {
                let response = response_of(operation);
                if first.is_none_or(|(earliest, _)| response < earliest) {
                    first = Some((response, index));
                }
            }
        }
        first
    }

    fn candidates(&self) -> Vec<Candidate> {
        let Some((limit, _)) = self.first_response() else { return Vec::new() };
        let mut answered: Vec<usize> = (self.lowest..self.answered.len())
            .take_while(|index| self.answered[*index].invoked.sequence < limit)
            .filter(|index| !self.answered_taken.contains(*index))
            .collect();
        answered.sort_by_key(|index| response_of(self.answered[*index]));
        let unanswered = (0..self.unanswered.len())
            .take_while(|index| self.unanswered[*index].invoked.sequence < limit)
            .filter(|index| !self.unanswered_taken.contains(*index));
        // Likeliest last: the sequence of responses, and a lost write only where nothing else fits.
        unanswered
            .map(Candidate::Unanswered)
            .chain(answered.into_iter().rev().map(Candidate::Answered))
            .collect()
    }

    fn take(&mut self, candidate: Candidate, register: Register) {
        match candidate {
            Candidate::Answered(index) => {
                self.answered_taken.insert(index);
                self.taken += 1;
                while self.answered_taken.contains(self.lowest) {
                    self.lowest += 1;
                }
            }
            Candidate::Unanswered(index) => self.unanswered_taken.insert(index),
        }
        self.register = register;
        if self.deepest.is_none_or(|(taken, ..)| self.taken > taken)
            && let Some((_, stuck_at)) = self.first_response()
        {
            self.deepest = Some((self.taken, register, stuck_at));
        }
    }

    fn put_back(&mut self, candidate: Candidate, register: Register, lowest: usize) {
        match candidate {
            Candidate::Answered(index) => {
                self.answered_taken.remove(index);
                self.taken -= 1;
            }
            Candidate::Unanswered(index) => self.unanswered_taken.remove(index),
        }
        self.register = register;
        self.lowest = lowest;
    }

    /// Remembers the present configuration; says whether it is one for the first time.
    fn is_new(&mut self) -> bool {
        let mut answered = NumberSet::default();
        let taken_beyond = self.taken - self.lowest;
        let mut index = self.lowest;
        let mut found = 0;
        while found < taken_beyond {
            if self.answered_taken.contains(index) {
                answered.insert(index - self.lowest);
                found += 1;
            }
            index += 1;
        }
        self.seen.insert(Configuration {
            lowest: self.lowest,
            answered,
            unanswered: self.unanswered_taken.clone(),
            register: self.register,
        })
    }

    fn nothing(&self) -> Found<'a> {
        let (explained, reached, stuck_at) = self.deepest.unwrap_or_else(|| {
            let (_, stuck_at) = self.first_response().expect("a history without answers fits");
            (0, Register::EMPTY, stuck_at)
        });
        Found::Nothing { explained, reached, stuck_at: self.answered[stuck_at] }
    }
}

fn response_of(operation: &Operation) -> u64 {
    operation.completed.expect("an outcome that is known came in a response").sequence
}
