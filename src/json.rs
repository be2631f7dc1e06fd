//! Chapter: scaling-out. JSON from outside, in which each name stands once.

use serde::de::{
    Deserialize, DeserializeOwned, Deserializer, Error, MapAccess, SeqAccess,
    Visitor,
};
use std::collections::HashSet;
use std::fmt;

/// Reads JSON. A name that stands twice in one object is an error: JSON leaves
/// open which of its two values counts, and readers differ.
///
/// # Errors
/// What is wrong and where, in one line.
///
/// ```
/// use moe_by_hand::json;
/// assert_eq!(json::parse::<[u8; 2]>(b"[1, 2]").unwrap(), [1, 2]);
/// let twice = json::parse::<serde_json::Value>(br#"{"a": 1, "a": 2}"#);
/// assert!(twice.unwrap_err().contains(r#"the name "a" stands twice"#));
/// ```
pub fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    let said = |e: serde_json::Error| e.to_string();
    let Once = serde_json::from_slice(json).map_err(said)?;
    serde_json::from_slice(json).map_err(said)
}

/// Any JSON in which no object has a name twice. Nothing of it is kept.
struct Once;
impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(Once)
    }
}
impl<'de> Visitor<'de> for Once {
    type Value = Self;
    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_map<A: MapAccess<'de>>(
        self, mut map: A,
    ) -> Result<Self, A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            let Once = map.next_value()?;
            if names.contains(&name) {
                let said = format!("the name {name:?} stands twice");
                return Err(A::Error::custom(said));
            }
            names.insert(name);
        }
        Ok(self)
    }
    fn visit_seq<A: SeqAccess<'de>>(
        self, mut seq: A,
    ) -> Result<Self, A::Error> {
        while let Some(Once) = seq.next_element()? {}
        Ok(self)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }
}
