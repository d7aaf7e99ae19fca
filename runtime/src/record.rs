//! How every persisted value is framed.
//!
//! ```text
//! byte 0        format version of the payload, from 1
//! bytes 1..5    CRC-32 (IEEE, little endian) of the version byte and the payload
//! bytes 5..     payload, encoded by postcard
//! ```
//!
//! The frame itself never changes: what a newer release writes can always be told from damage. A reader
//! names the newest payload version that it understands and is told which one it found.
//!
//! **Invariant**: a decoded value is exactly one that was encoded. Trailing bytes are an error.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::store::{Family, StoreError};

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 5;

/// Frames `value` as a record whose payload has the format `version`.
///
/// # Panics
/// If `version` is 0, or if the type's `Serialize` refuses (sequences of unknown length, which no
/// persisted type has).
pub fn encode<T: Serialize + ?Sized>(version: u8, value: &T) -> Bytes {
    assert!(version > 0, "record versions start at 1");
    let header = vec![version, 0, 0, 0, 0];
    let mut record = postcard::to_extend(value, header)
        .expect("persisted types have an encoding: their sequences know their length");
    let checksum = checksum(version, &record[HEADER_BYTES..]);
    record[1..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    record.into()
}

/// The value in a record of `family`, whose payload version is at most `supported`.
///
/// # Errors
/// [`StoreError::Corrupt`] that says whether the checksum, the version or the encoding was wrong.
pub fn decode<T: DeserializeOwned>(
    family: Family,
    supported: u8,
    record: &[u8],
) -> Result<T, StoreError> {
    let corrupt = |message: String| StoreError::Corrupt { family: family.0, message };
    let Some((header, payload)) = record.split_first_chunk::<HEADER_BYTES>() else {
        return Err(corrupt(format!(
            "encoding: {} bytes are too few for a record's header of {HEADER_BYTES}",
            record.len()
        )));
    };
    let [version, expected @ ..] = *header;
    let expected = u32::from_le_bytes(expected);
    let found = checksum(version, payload);
    if expected != found {
        return Err(corrupt(format!(
            "checksum: the record says {expected:08x}, its content gives {found:08x}"
        )));
    }
    if version == 0 || version > supported {
        return Err(corrupt(format!(
            "version: the record has format {version}, this release reads 1 to {supported}"
        )));
    }
    match postcard::take_from_bytes(payload) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(corrupt(format!(
            "encoding: {} bytes follow the value of format {version}",
            rest.len()
        ))),
        Err(error) => Err(corrupt(format!("encoding: format {version}: {error}"))),
    }
}

fn checksum(version: u8, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[version]);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAMILY: Family = Family("things");

    fn refusal(supported: u8, record: &[u8]) -> String {
        decode::<(u64, String)>(FAMILY, supported, record).expect_err("must be refused").to_string()
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let value = (7_u64, "seven".to_owned());
        let record = encode(3, &value);
        assert_eq!(decode::<(u64, String)>(FAMILY, 3, &record), Ok(value.clone()));
        assert_eq!(decode::<(u64, String)>(FAMILY, 9, &record), Ok(value));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let record = encode(1, &(7_u64, "seven".to_owned()));
        for bit in 0..record.len() * 8 {
            let mut damaged = record.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let message = refusal(1, &damaged);
            assert!(message.contains("things") && message.contains("checksum"), "{message}");
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        let record = encode(1, &(7_u64, "seven".to_owned()));
        for length in 0..record.len() {
            let message = refusal(1, &record[..length]);
            let expected = if length < HEADER_BYTES { "encoding" } else { "checksum" };
            assert!(message.contains(expected), "{length}: {message}");
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let message = refusal(1, &encode(2, &(7_u64, "seven".to_owned())));
        assert!(message.contains("format 2") && message.contains("1 to 1"), "{message}");
    }

    #[test]
    fn another_type_is_an_encoding_error() {
        let too_short = refusal(1, &encode(1, &7_u64));
        assert!(too_short.contains("encoding"), "{too_short}");
        let too_long = refusal(1, &encode(1, &(7_u64, "seven".to_owned(), 9_u8)));
        assert!(too_long.contains("1 bytes follow"), "{too_long}");
    }
}
