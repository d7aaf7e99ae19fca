//! How members encode Raft messages among themselves: postcard behind a format version.

use serde::{Serialize, de::DeserializeOwned};

/// The version of the encoding that this software writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// Why a message cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EncodingError {
    #[error(
        "the message has format version {found}; this member understands version {FORMAT_VERSION}"
    )]
    Version { found: u32 },
    #[error("the message is malformed")]
    Malformed(#[source] postcard::Error),
}

/// Encodes a message in the current format.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    postcard::to_stdvec(message).expect("messages of Raft have no unserialisable parts")
}

/// Decodes a message of the given format version.
///
/// # Errors
/// If the version is not this software's, or the bytes are not such a message.
pub fn decode<T: DeserializeOwned>(version: u32, bytes: &[u8]) -> Result<T, EncodingError> {
    if version != FORMAT_VERSION {
        return Err(EncodingError::Version { found: version });
    }
    postcard::from_bytes(bytes).map_err(EncodingError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_refused() {
        let bytes = encode(&7_u64);
        assert_eq!(decode::<u64>(FORMAT_VERSION, &bytes).unwrap(), 7);
        assert!(matches!(
            decode::<u64>(FORMAT_VERSION + 1, &bytes),
            Err(EncodingError::Version { found: 2 })
        ));
        assert!(matches!(
            decode::<String>(FORMAT_VERSION, &[9, 1]),
            Err(EncodingError::Malformed(_))
        ));
    }
}
