//! Bytes of foreign programs in JSON and such: text where they are UTF-8, else an array of them.

use std::fmt;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// One such text.
struct Text<'a>(&'a [u8]);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_seq(self.0),
        }
    }
}

struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of bytes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
                Ok(Bytes(text.as_bytes().to_vec()))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Bytes, E> {
                Ok(Bytes(text.into_bytes()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Bytes, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                Ok(Bytes(bytes))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// For `Box<[u8]>`.
pub mod bytes {
    use super::*;

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        Text(bytes).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<[u8]>, D::Error> {
        Bytes::deserialize(deserializer).map(|bytes| bytes.0.into())
    }
}

/// For `Option<Box<[u8]>>`.
pub mod option {
    use super::*;

    pub fn serialize<S: Serializer>(
        bytes: &Option<Box<[u8]>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        bytes.as_deref().map(Text).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Box<[u8]>>, D::Error> {
        let bytes = Option::<Bytes>::deserialize(deserializer)?;
        Ok(bytes.map(|bytes| bytes.0.into()))
    }
}

/// For a name that is padded with NULs, which are left out.
pub mod padded {
    use super::*;

    pub fn serialize<S: Serializer>(name: &[u8; 16], serializer: S) -> Result<S::Ok, S::Error> {
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(16);
        Text(&name[..end]).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 16], D::Error> {
        let bytes = Bytes::deserialize(deserializer)?.0;
        let mut name = [0; 16];
        let Some(start) = name.get_mut(..bytes.len()) else {
            return Err(de::Error::invalid_length(bytes.len(), &"at most 16 bytes"));
        };
        start.copy_from_slice(&bytes);
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::{
        Capabilities, Credentials, Environment, Image, ImageSource, Key, Nested, NsPid, Precision,
        Process, Sighting, State,
    };

    fn process() -> Process {
        let key = Key {
            start_ns: u64::MAX,
            tgid: 7,
        };
        let mut seen = Sighting::new(key, Precision::Nanosecond);
        seen.comm[..4].copy_from_slice(b"a\xffbc");
        seen.state = State::Idle;
        seen.credentials = Some(
            Credentials {
                capabilities: Capabilities {
                    bounding: u64::MAX,
                    ..Capabilities::default()
                },
                ..Credentials::default()
            }
            .share(),
        );
        seen.nested = Some(Box::new(Nested {
            level: 2,
            between: [NsPid { ns: None, pid: 3 }].into(),
        }));
        let mut image = Image::new(
            ImageSource::Exec,
            Some((*b"/bin/\xfe").into()),
            (*b"a b\0\0c\n\0").into(),
        );
        image.env = Some(Box::new(Environment {
            block: (*b"A=1\0").into(),
            truncated: true,
        }));
        let mut process = Process::new(seen, 9);
        process.image = Some(Arc::new(image));
        process
    }

    #[test]
    fn a_process_survives_the_way_through_json() {
        let process = process();
        let json = serde_json::to_string(&process).unwrap();
        assert_eq!(serde_json::from_str::<Process>(&json).unwrap(), process);
    }

    #[test]
    fn text_is_text_and_all_else_is_bytes() {
        let json = serde_json::to_value(process()).unwrap();
        assert_eq!(json["seen"]["comm"], serde_json::json!([97, 255, 98, 99]));
        assert_eq!(json["image"]["block"], "a b\0\0c\n\0");
        assert_eq!(json["image"]["path"][5], 254);
        assert_eq!(json["image"]["cwd"], serde_json::Value::Null);
    }

    #[test]
    fn a_name_that_is_too_long_is_refused() {
        let mut json = serde_json::to_value(process()).unwrap();
        json["seen"]["comm"] = "12345678901234567".into();
        let error = serde_json::from_value::<Process>(json).unwrap_err();
        assert!(error.to_string().contains("at most 16 bytes"), "{error}");
    }
}
