//! Bytes as text that is safe on any terminal, and back; quantities for people.

use std::time::Duration;

use bytes::Bytes;

/// The bytes as text: printable UTF-8 as it is, a backslash doubled, every other byte as `\xNN`.
/// [`unescape`] brings the bytes back.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '\\' {
                text.push_str("\\\\");
            } else if is_printable(character) {
                text.push(character);
            } else {
                let mut buffer = [0; 4];
                escape_bytes(&mut text, character.encode_utf8(&mut buffer).as_bytes());
            }
        }
        escape_bytes(&mut text, chunk.invalid());
    }
    text
}

fn escape_bytes(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        text.push_str(&format!("\\x{byte:02x}"));
    }
}

/// Whether the character shows as itself and does nothing else: no control characters, and none that
/// turn the direction of the text or have no width.
fn is_printable(character: char) -> bool {
    let invisible = matches!(
        character,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    );
    !character.is_control() && !invisible
}

/// The bytes that [`escape`] shows as `text`.
///
/// # Errors
/// If a backslash is not followed by another one or by `x` and two hexadecimal digits.
pub fn unescape(text: &str) -> Result<Bytes, String> {
    let wrong = |at: usize| {
        format!(
            "{text:?} has a lone backslash at byte {at}; write \\\\ for one, or \\xNN for a byte"
        )
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let position = text.len() - rest.len() + at;
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('\\') {
            bytes.push(b'\\');
            rest = after;
        } else {
            let digits = after.strip_prefix('x').and_then(|after| after.get(..2));
            let byte = digits
                .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
                .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                .ok_or_else(|| wrong(position))?;
            bytes.push(byte);
            rest = &after[3..];
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes.into())
}

/// An index key as `bucket/object key`, both escaped; a key without a bucket as it is.
pub fn show_key(key: &[u8]) -> String {
    match client::split_index_key(key) {
        Some((bucket, object)) => format!("{}/{}", escape(bucket), escape(object)),
        None => escape(key),
    }
}

/// The index key that [`show_key`] shows as `text`.
///
/// # Errors
/// As [`unescape`].
pub fn parse_split_key(text: &str) -> Result<Bytes, String> {
    match text.split_once('/') {
        Some((bucket, object)) => Ok(client::index_key(&unescape(bucket)?, &unescape(object)?)),
        None => unescape(text),
    }
}

/// The bound of a key range, escaped already; `open` where there is none.
pub fn show_bound(key: &str, open: &str) -> String {
    if key.is_empty() {
        return open.to_owned();
    }
    // A space at an end would not be seen.
    let inner = key.trim_matches(' ');
    let leading = key.len() - key.trim_start_matches(' ').len();
    let trailing = key.len() - leading - inner.len();
    let space = "\\x20";
    shorten(&format!("{}{inner}{}", space.repeat(leading), space.repeat(trailing)), 40)
}

/// At most `width` characters.
pub fn shorten(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// For example `3.2 GiB`.
pub fn show_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let mut amount = bytes as f64 / 1_024.0;
    let mut unit = 0;
    while amount >= 1_024.0 && unit + 1 < UNITS.len() {
        amount /= 1_024.0;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
}

/// For example `850 µs`, `12.3 ms`, `4.2 s`, `3 s`, `3 min 20 s`, `5 min`, `2 h 10 min`.
pub fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if duration.is_zero() {
        "0 s".to_owned()
    } else if seconds < 0.001 {
        format!("{:.0} µs", seconds * 1e6)
    } else if seconds < 0.999_95 {
        format!("{} ms", tenths(seconds * 1e3))
    } else if seconds < 59.95 {
        format!("{} s", tenths(seconds))
    } else {
        let whole = seconds.round() as u64;
        match (whole / 3_600, whole / 60 % 60, whole % 60) {
            (0, minutes, 0) => format!("{minutes} min"),
            (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
            (hours, 0, _) => format!("{hours} h"),
            (hours, minutes, _) => format!("{hours} h {minutes} min"),
        }
    }
}

/// With one digit after the point, unless that is a zero.
fn tenths(amount: f64) -> String {
    let text = format!("{amount:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// For example `1 node`, `2 nodes`.
pub fn count(number: u64, singular: &str, plural: &str) -> String {
    format!("{number} {}", if number == 1 { singular } else { plural })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_the_trip_through_text() {
        let all: Vec<u8> = (0..=u8::MAX).collect();
        for bytes in [&all[..], b"", b"plain/key.jpg", "größe €".as_bytes(), b"a\\b", b"\xf0\x9f"]
        {
            let text = escape(bytes);
            assert!(text.chars().all(is_printable), "{text}");
            assert_eq!(unescape(&text).unwrap(), bytes, "{text}");
        }
    }

    #[test]
    fn text_is_readable_where_it_can_be() {
        assert_eq!(escape("größe €".as_bytes()), "größe €");
        assert_eq!(escape(b"a\0\x1b[31m\xff"), "a\\x00\\x1b[31m\\xff");
        assert_eq!(escape("a\u{202e}b".as_bytes()), "a\\xe2\\x80\\xaeb");
        assert_eq!(show_key(b"photos\0cat.jpg"), "photos/cat.jpg");
    }

    #[test]
    fn a_lone_backslash_is_refused_with_its_place() {
        for text in ["a\\", "\\x1", "\\xg0", "\\x+1", "\\n", "\\x€"] {
            let error = unescape(text).unwrap_err();
            assert!(error.contains("lone backslash"), "{error}");
        }
    }

    #[test]
    fn quantities_are_for_people() {
        assert_eq!(show_bytes(1_023), "1023 B");
        assert_eq!(show_bytes(3 * 1_024 * 1_024 / 2), "1.5 MiB");
        assert_eq!(show_duration(Duration::from_micros(850)), "850 µs");
        assert_eq!(show_duration(Duration::from_millis(4_200)), "4.2 s");
        assert_eq!(show_duration(Duration::from_micros(3_002_339)), "3 s");
        assert_eq!(show_duration(Duration::from_millis(59_990)), "1 min");
        assert_eq!(show_duration(Duration::from_secs(200)), "3 min 20 s");
        assert_eq!(show_duration(Duration::from_secs(300)), "5 min");
        assert_eq!(show_duration(Duration::from_secs(7_800)), "2 h 10 min");
        assert_eq!(shorten("abcdef", 4), "abc…");
        assert_eq!(show_bound("", "(lowest)"), "(lowest)");
        assert_eq!(show_bound(" ", ""), "\\x20");
        assert_eq!(show_bound(" a b  ", ""), "\\x20a b\\x20\\x20");
        assert_eq!(count(1, "node", "nodes"), "1 node");
    }
}
