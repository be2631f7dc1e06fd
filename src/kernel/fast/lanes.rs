//! Chapter: simd. Loops over vectors, and sums in lanes.

use crate::kernel::simd::Simd;

// Loops over vectors are macros and not functions that take closures: a
// closure that is not inlined is compiled without the instruction set, and
// then each of its instructions is a call.

/// Goes through n numbers: `full` at the place i of each whole vector, `part`
/// at that of a shorter last one. The accumulator takes turns with four, so
/// that none waits for the one before; all indices into them are constants,
/// without which they would lie in memory.
macro_rules! in_turn {
    ($acc:ident, $n:expr, |$i:ident, $a:ident| $full:expr, $part:expr) => {{
        let (n, mut $i) = ($n, 0);
        while $i + 4 * S::W <= n {
            for $a in &mut $acc {
                $full;
                $i += S::W;
            }
        }
        for $a in &mut $acc[..3] {
            if $i + S::W <= n {
                $full;
                $i += S::W;
            }
        }
        if $i < n {
            let $a = &mut $acc[3];
            $part;
        }
    }};
}
/// Folds the vectors of the slices that are named, from left to right; lanes
/// past the end are `or`.
macro_rules! fold {
    ($s:ident, or $or:expr, from $start:expr,
     |$a:ident, $x0:ident $(, $x:ident)*| $e:expr) => {{
        let (x0, mut acc): (&[f32], _) = ($x0, [$s.splat($start); 4]);
        $(assert_eq!(x0.len(), $x.len(), "fold: lengths");)*
        $crate::kernel::fast::lanes::in_turn!(acc, x0.len(), |i, a| {
            let ($a, $x0) = (*a, $s.load(&x0[i..]));
            $(let $x = $s.load(&$x[i..]);)*
            *a = $e;
        }, {
            let ($a, $x0) = (*a, $s.load_or(&x0[i..], $or));
            $(let $x = $s.load_or(&$x[i..], $or);)*
            *a = $e;
        });
        acc
    }};
}
/// Sets y, vector by vector, from the slices that are named; or y and z, where
/// one is computed on the way to the other.
macro_rules! set {
    ($s:ident, $y:ident and $z:ident, |$($x:ident),+| $e:expr) => {{
        assert_eq!($y.len(), $z.len(), "set: lengths");
        $(assert_eq!($y.len(), $x.len(), "set: lengths");)+
        let n = $y.len() / S::W * S::W;
        for i in (0..n).step_by(S::W) {
            $(let $x = $s.load(&$x[i..]);)+
            let (y, z) = $e;
            $s.store(&mut $y[i..], y);
            $s.store(&mut $z[i..], z);
        }
        if n < $y.len() {
            $(let $x = $s.load_part(&$x[n..]);)+
            let (y, z) = $e;
            $s.store_part(&mut $y[n..], y);
            $s.store_part(&mut $z[n..], z);
        }
    }};
    ($s:ident, $y:expr, |$($x:ident),+| $e:expr) => {{
        let y: &mut [f32] = $y;
        $(assert_eq!(y.len(), $x.len(), "set: lengths");)+
        let n = y.len() / S::W * S::W;
        for i in (0..n).step_by(S::W) {
            $(let $x = $s.load(&$x[i..]);)+
            $s.store(&mut y[i..], $e);
        }
        if n < y.len() {
            $(let $x = $s.load_part(&$x[n..]);)+
            $s.store_part(&mut y[n..], $e);
        }
    }};
}
/// Replaces the vectors v of y, given the slices that are named.
macro_rules! update {
    ($s:ident, $y:expr, |$v:ident $(, $x:ident)*| $e:expr) => {{
        let y: &mut [f32] = $y;
        $(assert_eq!(y.len(), $x.len(), "update: lengths");)*
        let n = y.len() / S::W * S::W;
        for i in (0..n).step_by(S::W) {
            let $v = $s.load(&y[i..]);
            $(let $x = $s.load(&$x[i..]);)*
            $s.store(&mut y[i..], $e);
        }
        if n < y.len() {
            let $v = $s.load_part(&y[n..]);
            $(let $x = $s.load_part(&$x[n..]);)*
            $s.store_part(&mut y[n..], $e);
        }
    }};
}
pub(super) use {fold, in_turn, set, update};

/// The sum of four accumulators.
#[inline(always)]
pub(super) fn total<S: Simd>(s: S, a: [S::V; 4]) -> f32 {
    s.reduce_sum(s.add(s.add(a[0], a[1]), s.add(a[2], a[3])))
}
/// The largest number of x, −∞ if there is none: a NaN is passed over.
#[inline(always)]
pub(super) fn max<S: Simd>(s: S, x: &[f32]) -> f32 {
    let low = f32::NEG_INFINITY;
    let a = fold!(s, or low, from low, |a, x| s.max(x, a));
    s.reduce_max(s.max(s.max(a[0], a[1]), s.max(a[2], a[3])))
}
/// ⟨a, b⟩.
#[inline(always)]
pub(super) fn dot<S: Simd>(s: S, a: &[f32], b: &[f32]) -> f32 {
    total(s, fold!(s, or 0.0, from 0.0, |sum, a, b| s.fma(a, b, sum)))
}
