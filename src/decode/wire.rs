//! Wire types of event v1 (design section 3), borrowed from the payload wherever no escape forces a copy.
//!
//! `Option<Cow<str>>` never borrows under serde's derive, hence [`Text`].

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::MAX_HEADERS;
use crate::model::EventTime;

/// A JSON string, borrowed unless it holds escapes.
#[derive(Debug)]
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text)))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// A JSON object, and nothing else: serde's derive would take an array of the members too.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// `time`: RFC 3339 text or epoch milliseconds; `None` when it is neither, or out of range.
#[derive(Debug, Default)]
pub(super) struct Time(pub(super) Option<EventTime>);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TimeVisitor;
        impl<'de> Visitor<'de> for TimeVisitor {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("RFC 3339 text or epoch milliseconds")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Time, E> {
                Ok(Time(EventTime::parse(text)))
            }

            fn visit_i64<E: Error>(self, millis: i64) -> Result<Time, E> {
                Ok(Time(EventTime::from_millis(millis)))
            }

            fn visit_u64<E: Error>(self, millis: u64) -> Result<Time, E> {
                Ok(Time(
                    i64::try_from(millis).ok().and_then(EventTime::from_millis),
                ))
            }

            // The remaining kinds are well-formed JSON with a time that says nothing, which has a reason of its own.
            fn visit_f64<E: Error>(self, _: f64) -> Result<Time, E> {
                Ok(Time(None))
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<Time, E> {
                Ok(Time(None))
            }

            fn visit_unit<E: Error>(self) -> Result<Time, E> {
                Ok(Time(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Time, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Time(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Time, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Time(None))
            }
        }
        deserializer.deserialize_any(TimeVisitor)
    }
}

/// `headers`: name → value or list of values, flattened in log order.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    pub(super) fields: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// More than [`MAX_HEADERS`] fields were there; the surplus is not kept.
    pub(super) too_many: bool,
}

impl<'a> Fields<'a> {
    #[expect(
        clippy::ptr_arg,
        reason = "a clone of a borrowed name copies a pointer, not the text"
    )]
    fn push(&mut self, name: &Cow<'a, str>, value: Cow<'a, str>) {
        if self.fields.len() < MAX_HEADERS {
            self.fields.push((name.clone(), value));
        } else {
            self.too_many = true;
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings or arrays of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Fields {
                    fields: Vec::with_capacity(8),
                    too_many: false,
                };
                while let Some(Text(name)) = map.next_key()? {
                    map.next_value_seed(Values {
                        name,
                        fields: &mut fields,
                    })?;
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// Reads the value or values of one header straight into the list.
struct Values<'f, 'a> {
    name: Cow<'a, str>,
    fields: &'f mut Fields<'a>,
}

impl<'de> DeserializeSeed<'de> for Values<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Values<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an array of strings")
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<(), E> {
        self.fields.push(&self.name, Cow::Borrowed(value));
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.fields.push(&self.name, Cow::Owned(value.to_owned()));
        Ok(())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<(), E> {
        self.fields.push(&self.name, Cow::Owned(value));
        Ok(())
    }

    /// A gateway that logs `null` for a header says that it was not there.
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(Text(value)) = seq.next_element()? {
            self.fields.push(&self.name, value);
        }
        Ok(())
    }
}

/// `headers_captured`: true, false, or the names the log would show.
#[derive(Debug)]
pub(super) enum HeadersCaptured<'a> {
    All(bool),
    Names(Vec<Cow<'a, str>>),
}

impl<'de: 'a, 'a> Deserialize<'de> for HeadersCaptured<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CapturedVisitor;
        impl<'de> Visitor<'de> for CapturedVisitor {
            type Value = HeadersCaptured<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or an array of names")
            }

            fn visit_bool<E: Error>(self, all: bool) -> Result<Self::Value, E> {
                Ok(HeadersCaptured::All(all))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut names = Vec::new();
                while let Some(Text(name)) = seq.next_element()? {
                    names.push(name);
                }
                Ok(HeadersCaptured::Names(names))
            }
        }
        deserializer.deserialize_any(CapturedVisitor)
    }
}

/// How `body` is written.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum BodyEncoding {
    #[default]
    Utf8,
    Base64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Event<'a> {
    #[serde(borrow, default)]
    pub(super) kind: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) id: Option<Text<'a>>,
    #[serde(default)]
    pub(super) time: Time,
    #[serde(borrow, default)]
    pub(super) zone: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) client: Option<Object<Client<'a>>>,
    #[serde(borrow, default)]
    pub(super) tls: Option<Object<Tls<'a>>>,
    #[serde(borrow, default)]
    pub(super) request: Option<Object<Request<'a>>>,
    #[serde(borrow, default)]
    pub(super) response: Option<Object<Response<'a>>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Client<'a> {
    #[serde(borrow, default)]
    pub(super) ip: Option<Text<'a>>,
    #[serde(default)]
    pub(super) port: Option<u16>,
    #[serde(default)]
    pub(super) asn: Option<u32>,
    #[serde(borrow, default)]
    pub(super) country: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Tls<'a> {
    #[serde(borrow, default)]
    pub(super) client_certificate: Option<Object<Certificate<'a>>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Certificate<'a> {
    #[serde(default)]
    pub(super) presented: Option<bool>,
    #[serde(default)]
    pub(super) verified: Option<bool>,
    #[serde(default)]
    pub(super) revoked: Option<bool>,
    #[serde(borrow, default)]
    pub(super) fingerprint_sha256: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) subject_dn: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) issuer_dn: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) serial: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) not_before: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) not_after: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) pem: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Request<'a> {
    #[serde(borrow)]
    pub(super) method: Text<'a>,
    #[serde(borrow, default)]
    pub(super) scheme: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) host: Text<'a>,
    #[serde(borrow)]
    pub(super) path: Text<'a>,
    #[serde(borrow, default)]
    pub(super) query: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) headers: Option<Fields<'a>>,
    #[serde(borrow, default)]
    pub(super) headers_captured: Option<HeadersCaptured<'a>>,
    #[serde(borrow, default)]
    pub(super) body: Option<Text<'a>>,
    #[serde(default)]
    pub(super) body_encoding: Option<BodyEncoding>,
    #[serde(default)]
    pub(super) body_bytes: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Response<'a> {
    pub(super) status: i64,
    #[serde(borrow, default)]
    pub(super) headers: Option<Fields<'a>>,
    #[serde(borrow, default)]
    pub(super) headers_captured: Option<HeadersCaptured<'a>>,
    #[serde(borrow, default)]
    pub(super) body: Option<Text<'a>>,
    #[serde(default)]
    pub(super) body_encoding: Option<BodyEncoding>,
    #[serde(default)]
    pub(super) body_bytes: Option<u64>,
    #[serde(default)]
    pub(super) duration_ms: Option<f64>,
}
