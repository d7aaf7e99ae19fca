//! What load to put on the zone.

use std::time::Duration;

use crate::arguments::LoadArguments;

use super::values::HEADER_BYTES;

/// What load to put on the zone. Checked by [`LoadOptions::check`].
#[derive(Clone, Debug, PartialEq)]
pub struct LoadOptions {
    /// Requests per second that are started.
    pub rate_per_second: f64,
    /// For how long requests are started.
    pub duration: Duration,
    /// How many different keys.
    pub keys: u64,
    /// Bytes of each value.
    pub value_bytes: u32,
    /// The share of reads, 0 to 1.
    pub read_ratio: f64,
    /// The share of deletes among the writes, 0 to 1.
    pub delete_ratio: f64,
    /// Exponent of the keys' popularity; 0: uniform.
    pub zipf: f64,
    /// Check every answer, and every key at the end.
    pub verify: bool,
    /// Connections to each node.
    pub connections: u32,
    /// Requests that may be outstanding.
    pub outstanding_max: u32,
    /// Ends the buckets that the keys are in.
    pub bucket: String,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            rate_per_second: 1_000.0,
            duration: Duration::from_secs(30),
            keys: 10_000,
            value_bytes: 256,
            read_ratio: 0.5,
            delete_ratio: 0.0,
            zipf: 0.0,
            verify: false,
            connections: 1,
            outstanding_max: 4_096,
            bucket: "load".to_owned(),
        }
    }
}

impl From<&LoadArguments> for LoadOptions {
    fn from(arguments: &LoadArguments) -> Self {
        Self {
            rate_per_second: arguments.rate,
            duration: arguments.duration,
            keys: arguments.keys,
            value_bytes: arguments.value_bytes,
            read_ratio: arguments.read_ratio,
            delete_ratio: arguments.delete_ratio,
            zipf: arguments.zipf,
            verify: arguments.verify,
            connections: arguments.connections,
            outstanding_max: arguments.outstanding,
            bucket: arguments.bucket.clone(),
        }
    }
}

/// The most requests of one run.
const REQUESTS_MAX: f64 = 1e9;
const BUCKET_BYTES_MAX: usize = 64;
/// A value is at most 65,536 bytes encoded; the rest is for the other fields.
const VALUE_BYTES_MAX: u32 = 65_000;

fn within<T: PartialOrd + std::fmt::Display>(
    name: &str,
    value: &T,
    least: &T,
    most: &T,
) -> Result<(), String> {
    if value >= least && value <= most {
        Ok(())
    } else {
        Err(format!("{name} is {value}; it must be from {least} to {most}"))
    }
}

impl LoadOptions {
    /// # Errors
    /// A sentence that names the option, what is wrong with it, and what would be right.
    pub fn check(&self) -> Result<(), String> {
        within("--rate", &self.rate_per_second, &0.1, &200_000.0)?;
        within("--keys", &self.keys, &1, &10_000_000)?;
        within("--value-bytes", &self.value_bytes, &HEADER_BYTES, &VALUE_BYTES_MAX)?;
        within("--read-ratio", &self.read_ratio, &0.0, &1.0)?;
        within("--delete-ratio", &self.delete_ratio, &0.0, &1.0)?;
        within("--zipf", &self.zipf, &0.0, &10.0)?;
        within("--connections", &self.connections, &1, &64)?;
        within("--outstanding", &self.outstanding_max, &1, &100_000)?;
        let day = Duration::from_secs(24 * 60 * 60);
        if self.duration.is_zero() || self.duration > day {
            let given = humantime::format_duration(self.duration);
            return Err(format!("--duration is {given}; it must be more than 0 and at most 1 day"));
        }
        if self.rate_per_second * self.duration.as_secs_f64() > REQUESTS_MAX {
            return Err(format!(
                "--rate times --duration is more than {REQUESTS_MAX} requests; make one smaller"
            ));
        }
        if self.bucket.is_empty()
            || self.bucket.len() > BUCKET_BYTES_MAX
            || self.bucket.contains('\0')
        {
            return Err(format!(
                "--bucket is {:?}; it must have 1 to {BUCKET_BYTES_MAX} bytes and no NUL",
                self.bucket
            ));
        }
        Ok(())
    }

    /// How many requests are due.
    pub fn planned(&self) -> u64 {
        // Checked: at most a thousand million, and not negative.
        let planned = (self.rate_per_second * self.duration.as_secs_f64()).round();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let planned = planned as u64;
        planned.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_options_are_refused_by_name() {
        LoadOptions::default().check().unwrap();
        let base = LoadOptions::default;
        for (options, name) in [
            (LoadOptions { rate_per_second: 0.0, ..base() }, "--rate"),
            (LoadOptions { rate_per_second: f64::NAN, ..base() }, "--rate"),
            (LoadOptions { keys: 0, ..base() }, "--keys"),
            (LoadOptions { value_bytes: 3, ..base() }, "--value-bytes"),
            (LoadOptions { read_ratio: 1.5, ..base() }, "--read-ratio"),
            (LoadOptions { zipf: -1.0, ..base() }, "--zipf"),
            (LoadOptions { duration: Duration::ZERO, ..base() }, "--duration"),
            (LoadOptions { outstanding_max: 0, ..base() }, "--outstanding"),
            (LoadOptions { bucket: "a\0b".into(), ..base() }, "--bucket"),
        ] {
            let error = options.check().unwrap_err();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn the_number_of_requests_is_rate_times_duration() {
        let options = LoadOptions {
            rate_per_second: 250.0,
            duration: Duration::from_millis(1_500),
            ..LoadOptions::default()
        };
        assert_eq!(options.planned(), 375);
    }
}
