//! How much of the processors a process has used.

/// The kernel's unit of processor time on every Linux that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor seconds, of user and system, that the process has used so far; none if it is gone.
pub fn processor_seconds(process_id: u32) -> Option<f64> {
    parse(&std::fs::read_to_string(format!("/proc/{process_id}/stat")).ok()?)
}

fn parse(stat: &str) -> Option<f64> {
    // After the name in parentheses; user and system time are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_found_behind_any_name() {
        let stat = "17 (a ) b) S 1 17 17 0 -1 4194560 900 0 0 0 250 50 0 0 20 0 9 0 100 1 2 3";
        assert_eq!(parse(stat), Some(3.0));
        assert_eq!(parse("17 (short) S 1"), None);
        assert!(processor_seconds(std::process::id()).is_some());
    }
}
