//! The command line, by hand: the model has no need of a parser otherwise.

pub const USAGE: &str = "usage: scale [--partitions 1..=2000000] [--nodes 3..=10000]";

const PARTITIONS_MAX: u64 = 2_000_000;
const NODES_MIN: u64 = 3;
const NODES_MAX: u64 = 10_000;

#[derive(Clone, Copy, Debug)]
pub struct Arguments {
    pub partitions: u64,
    pub nodes: u64,
    /// This size alone, for the process that prints the table.
    pub is_single: bool,
}

impl Arguments {
    /// # Errors
    /// In words, if it is not as [`USAGE`] says.
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self { partitions: 1_000_000, nodes: 1_000, is_single: false };
        let mut words = words;
        while let Some(word) = words.next() {
            match word.as_str() {
                "--partitions" => {
                    arguments.partitions = number(&word, words.next(), 1, PARTITIONS_MAX)?;
                }
                "--nodes" => {
                    arguments.nodes = number(&word, words.next(), NODES_MIN, NODES_MAX)?;
                }
                "--single" => arguments.is_single = true,
                other => return Err(format!("unknown argument {other:?}")),
            }
        }
        Ok(arguments)
    }

    /// From a thousand, tenfold each, up to the number that was asked for.
    pub fn sizes(self) -> Vec<u64> {
        let smaller = std::iter::successors(Some(1_000), |size| Some(size * 10));
        let mut sizes: Vec<u64> = smaller.take_while(|size| *size < self.partitions).collect();
        sizes.push(self.partitions);
        sizes
    }
}

fn number(name: &str, word: Option<String>, min: u64, max: u64) -> Result<u64, String> {
    let word = word.ok_or_else(|| format!("{name} needs a number from {min} to {max}"))?;
    let number = word.parse().ok().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| format!("{name} is {word:?}: expected a number from {min} to {max}"))
}
