//! How moments are spread. Pure.

/// The most of the moments that lie in any half-open stretch of `window_ms`.
pub fn most_within(moments_ms: &[f64], window_ms: f64) -> usize {
    let mut sorted = moments_ms.to_vec();
    sorted.sort_by(f64::total_cmp);
    let mut first = 0;
    let mut most = 0;
    for (last, at) in sorted.iter().enumerate() {
        while at - sorted[first] >= window_ms {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_is_found_wherever_it_begins() {
        assert_eq!(most_within(&[], 10.0), 0);
        assert_eq!(most_within(&[5.0], 10.0), 1);
        // Across the border of two tens.
        assert_eq!(most_within(&[31.0, 8.0, 9.0, 11.0, 17.9, 0.0], 10.0), 4);
        assert_eq!(most_within(&[0.0, 10.0, 20.0], 10.0), 1, "the end is not within");
        assert_eq!(most_within(&[3.0; 7], 10.0), 7);
    }
}
