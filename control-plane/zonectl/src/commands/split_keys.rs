//! Where the key space is cut when a zone is made.

use std::path::Path;

use bytes::Bytes;

use crate::{arguments::SplitArguments, failure::Failure, text::parse_split_key};

/// The keys that the arguments ask for.
///
/// # Errors
/// If the file cannot be read, or its keys cannot be split keys.
pub fn split_keys(arguments: &SplitArguments) -> Result<Vec<Bytes>, Failure> {
    match &arguments.split_keys_file {
        Some(file) => read_split_keys(file),
        None => Ok(even_split_keys(arguments.partitions)),
    }
}

/// Cuts the byte space into `partitions` (1 to 65,536) ranges of nearly the same size.
pub fn even_split_keys(partitions: u32) -> Vec<Bytes> {
    (1..u64::from(partitions))
        .map(|cut| {
            let position = cut * 65_536 / u64::from(partitions);
            let key = u16::try_from(position).expect("a cut lies below the end").to_be_bytes();
            // A trailing zero byte would only make the key longer.
            Bytes::copy_from_slice(if key[1] == 0 { &key[..1] } else { &key })
        })
        .collect()
}

/// Reads one split key from each line: `bucket/object key`, or `bucket/`, or a bare key without a slash.
/// Empty lines are skipped.
///
/// # Errors
/// If the file cannot be read, or a line is no key, or a key does not come after the one before it.
pub fn read_split_keys(file: &Path) -> Result<Vec<Bytes>, Failure> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(Failure::io(format!("cannot read the split keys from {shown}")))?;
    parse_split_keys(&text).map_err(|problem| Failure::Command(format!("{shown}: {problem}")))
}

fn parse_split_keys(text: &str) -> Result<Vec<Bytes>, String> {
    let mut keys: Vec<Bytes> = Vec::new();
    for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.is_empty()) {
        let key = parse_split_key(text).map_err(|problem| format!("line {line}: {problem}"))?;
        if keys.last().is_some_and(|previous| *previous >= key) {
            return Err(format!(
                "line {line}: {text} does not come after the key before it; the keys must ascend"
            ));
        }
        keys.push(key);
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_split_ascends_and_covers_the_byte_space() {
        assert!(even_split_keys(1).is_empty());
        assert_eq!(even_split_keys(4), [&[0x40][..], &[0x80], &[0xc0]]);
        for partitions in [2, 3, 16, 300, 65_536] {
            let keys = even_split_keys(partitions);
            assert_eq!(keys.len() + 1, partitions as usize);
            assert!(!keys[0].is_empty());
            assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "{partitions}");
        }
    }

    #[test]
    fn split_keys_are_read_from_lines() {
        let keys = parse_split_keys("photos/\n\nphotos/m\\x00\nx").unwrap();
        assert_eq!(keys, [&b"photos\0"[..], b"photos\0m\0", b"x"]);
    }

    #[test]
    fn wrong_split_keys_are_refused_with_their_line() {
        let error = parse_split_keys("b\na").unwrap_err();
        assert!(error.contains("line 2") && error.contains("ascend"), "{error}");
        assert!(parse_split_keys("a\na").is_err());
        assert!(parse_split_keys("a\\").unwrap_err().contains("line 1"));
    }
}
