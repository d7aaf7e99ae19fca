//! The engine's own encoding of what travels between replicas inside opaque fields.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

/// The version of the encoding that this program speaks.
pub const FORMAT_VERSION: u32 = 1;

/// Why a payload cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("encoded in format {found}, but this node speaks format {FORMAT_VERSION}")]
    UnknownFormat { found: u32 },
    #[error("malformed payload: {0}")]
    Malformed(String),
}

pub fn encode<T: Serialize>(value: &T) -> Bytes {
    postcard::to_stdvec(value).expect("the engine's messages have no unserialisable part").into()
}

pub fn decode<T: DeserializeOwned>(format_version: u32, data: &[u8]) -> Result<T, CodecError> {
    if format_version != FORMAT_VERSION {
        return Err(CodecError::UnknownFormat { found: format_version });
    }
    match postcard::take_from_bytes(data) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(CodecError::Malformed(format!("{} bytes too many", rest.len()))),
        Err(error) => Err(CodecError::Malformed(error.to_string())),
    }
}
