//! Makes a schedule of faults smaller as long as the run still fails in the same way: delta debugging
//! (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002), without its test of
//! subsets alone, which seldom fail.

/// The smallest list that was found, of those that still fail. `fails` is asked about lists that are
/// part of `items`, in their sequence; it is not asked about `items` itself, which is known to fail.
///
/// # Errors
/// Whatever `fails` ends with.
pub fn shrink<T: Clone, E>(
    items: &[T],
    mut fails: impl FnMut(&[T]) -> Result<bool, E>,
) -> Result<Vec<T>, E> {
    let mut smallest = items.to_vec();
    let mut chunk = smallest.len().div_ceil(2).max(1);
    loop {
        let mut start = 0;
        let mut has_shrunk = false;
        while start < smallest.len() {
            let end = (start + chunk).min(smallest.len());
            let without: Vec<T> = [&smallest[..start], &smallest[end..]].concat();
            if fails(&without)? {
                smallest = without;
                has_shrunk = true;
            } else {
                start = end;
            }
        }
        if chunk > 1 {
            chunk = chunk.div_ceil(2);
        } else if !has_shrunk {
            return Ok(smallest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn shrunk(count: u32, needed: &[u32]) -> (Vec<u32>, u32) {
        let items: Vec<u32> = (0..count).collect();
        let mut asked = 0;
        let smallest = shrink(&items, |list| {
            asked += 1;
            Ok::<_, Infallible>(needed.iter().all(|item| list.contains(item)))
        });
        (smallest.unwrap(), asked)
    }

    #[test]
    fn exactly_what_is_needed_is_left() {
        for needed in [vec![], vec![0], vec![39], vec![3, 4], vec![0, 20, 39]] {
            let (smallest, asked) = shrunk(40, &needed);
            assert_eq!(smallest, needed);
            assert!(asked < 120, "{asked}");
        }
        assert_eq!(shrunk(0, &[]).0, Vec::<u32>::new());
        assert_eq!(shrunk(1, &[0]).0, [0]);
    }

    #[test]
    fn what_goes_wrong_on_the_way_is_told() {
        let failed = shrink(&[1, 2, 3], |_| Err::<bool, _>("no more"));
        assert_eq!(failed, Err("no more"));
    }
}
