//! The checksum of a snapshot's records, as `member.proto` defines it.

/// CRC-32 over byte strings, each preceded by its length as 4 bytes, little-endian.
#[derive(Clone, Default)]
pub struct Checksum(crc32fast::Hasher);

impl Checksum {
    pub fn add(&mut self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).expect("a record is smaller than a message");
        self.0.update(&length.to_le_bytes());
        self.0.update(bytes);
    }

    pub fn value(&self) -> u32 {
        self.0.clone().finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_borders_between_strings_count() {
        let sum = |strings: &[&[u8]]| {
            let mut checksum = Checksum::default();
            for string in strings {
                checksum.add(string);
            }
            checksum.value()
        };
        assert_eq!(sum(&[b"ab", b"c"]), sum(&[b"ab", b"c"]));
        assert_ne!(sum(&[b"ab", b"c"]), sum(&[b"a", b"bc"]));
    }
}
