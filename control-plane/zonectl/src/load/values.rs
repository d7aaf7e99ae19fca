//! Values that say which write made them.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use client::ObjectMetadata;

use super::keys::mix;

/// Identifies a run: a value of another one is foreign.
pub type RunId = [u8; 16];

const MAGIC: &[u8; 8] = b"isoload1";

/// Magic, run, key and sequence.
pub(super) const HEADER_BYTES: u32 = 40;

/// Makes values, and tells whose a value is.
#[derive(Clone, Debug)]
pub struct ValueCodec {
    run: RunId,
    value_bytes: usize,
}

/// What a value says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Written by this run for the key, as its write with this sequence.
    Ours { sequence: u64 },
    /// Written by another run, or something else altogether.
    Foreign,
    /// Claims to be of this run, and is not what this run has written.
    Corrupt(&'static str),
}

impl ValueCodec {
    /// # Panics
    /// If the values are too short for the header.
    pub fn new(run: RunId, value_bytes: u32) -> Self {
        assert!(value_bytes >= HEADER_BYTES, "values have at least {HEADER_BYTES} bytes");
        Self { run, value_bytes: value_bytes as usize }
    }

    /// The value of a write.
    pub fn encode(&self, key: u64, sequence: u64) -> ObjectMetadata {
        let mut payload = BytesMut::with_capacity(self.value_bytes + 8);
        payload.put_slice(MAGIC);
        payload.put_slice(&self.run);
        payload.put_u64(key);
        payload.put_u64(sequence);
        // The rest follows from the header, so that every byte can be checked.
        let mut filler = mix(key) ^ mix(sequence);
        while payload.len() < self.value_bytes {
            filler = mix(filler);
            payload.put_u64(filler);
        }
        payload.truncate(self.value_bytes);
        ObjectMetadata {
            etag: Bytes::copy_from_slice(&sequence.to_be_bytes()),
            size_bytes: self.value_bytes as u64,
            location: Bytes::from_static(b"load"),
            user_payload: payload.freeze(),
        }
    }

    /// Whose value was found under the key.
    pub fn decode(&self, key: u64, value: &ObjectMetadata) -> Content {
        let mut payload: &[u8] = &value.user_payload;
        if payload.len() < HEADER_BYTES as usize || !payload.starts_with(MAGIC) {
            return Content::Foreign;
        }
        payload.advance(MAGIC.len());
        if !payload.starts_with(&self.run) {
            return Content::Foreign;
        }
        payload.advance(self.run.len());
        let (found_key, sequence) = (payload.get_u64(), payload.get_u64());
        if found_key != key {
            return Content::Corrupt("the value of another key");
        }
        if *value != self.encode(key, sequence) {
            return Content::Corrupt("a value whose bytes do not fit its header");
        }
        Content::Ours { sequence }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_says_which_write_made_it() {
        let codec = ValueCodec::new([7; 16], 100);
        let value = codec.encode(3, 9);
        assert_eq!(value.user_payload.len(), 100);
        assert_eq!(codec.decode(3, &value), Content::Ours { sequence: 9 });
        assert!(matches!(codec.decode(4, &value), Content::Corrupt(_)));
        assert_eq!(ValueCodec::new([8; 16], 100).decode(3, &value), Content::Foreign);
        assert_eq!(codec.decode(3, &ObjectMetadata::default()), Content::Foreign);
    }

    #[test]
    fn every_byte_counts() {
        let codec = ValueCodec::new([7; 16], 64);
        let value = codec.encode(3, 9);
        for position in 24..64 {
            let mut payload = value.user_payload.to_vec();
            payload[position] ^= 1;
            let changed = ObjectMetadata { user_payload: payload.into(), ..value.clone() };
            assert!(matches!(codec.decode(3, &changed), Content::Corrupt(_)), "{position}");
        }
        let changed = ObjectMetadata { size_bytes: 1, ..value };
        assert!(matches!(codec.decode(3, &changed), Content::Corrupt(_)));
    }
}
