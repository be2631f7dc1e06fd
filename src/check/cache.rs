//! Chapter: kv-cache. The proof of the key/value cache.

use super::attention::{attention, with_heads};
use super::tools::{Check, D, built, check, formula, random};
use crate::gradcheck::Report;
use crate::layer::{Decode, Shape};

pub(super) const CHECKS: &[Check] = &[check("kv-cache", kv_cache)];

fn kv_cache() -> Report {
    with_heads(|name, h| {
        let (l, x) = (built(attention(h)), random("x", 5 * D));
        let whole = Shape { batch: 1, time: 5 };
        // Two rows at once, then one by one.
        let (mut cache, mut y) = (l.layer.cache(usize::MAX), vec![]);
        for (start, t) in [(0, 2), (2, 1), (3, 1), (4, 1)] {
            let mut a = l.layer.acts_cached(t);
            let x = &x[start * D..(start + t) * D];
            l.layer.extend(&l.p, x, &mut a, &mut cache, start);
            y.extend_from_slice(&a.y);
        }
        formula(name, &y, &l.forward(&x, whole))
    })
}
