//! Chapter: half. How a kernel runs on numbers that are stored in 16 bits: it
//! computes in f32, some rows at a time, and what it sets is rounded once.
//!
//! A kernel says at its beginning, by [`in_wide`], which of its arguments are
//! read and written, and how wide their rows are; and then calls itself, on
//! f32s. So there is one kernel for all numbers, and no sum runs in 16 bits.

use crate::kernel::view::{Add, Mat, MatMut, Op, mat_mut};
use crate::real::Real;
use std::array::from_fn;
use std::cell::RefCell;
use std::mem::take;
use std::ops::Range;

/// Numbers that a thread has room for: of those that a product needs at a time,
/// as many as fit into a second-level cache with what else is there.
const ROOM: usize = 1 << 16;
/// Numbers that rows are widened to at a time: they stay in a first-level
/// cache. One row is the least.
const PIECE: usize = 1 << 12;
/// Choices that are put into the order of their rows at a time.
const CHOICES: usize = 1 << 9;

/// Where numbers are widened to. Each thread has its own, for good: nothing is
/// allocated, nor zeroed, by a kernel.
#[repr(align(64))]
struct Room([f32; ROOM]);
thread_local! {
    static HERE: RefCell<Room> = const { RefCell::new(Room([0.0; ROOM])) };
    /// For rows that are longer than any model's of today.
    static MORE: RefCell<Vec<f32>> = const { RefCell::new(vec![]) };
}
/// Calls `f` with room for n numbers, which hold anything.
fn with_room<W: Real, R>(n: usize, f: impl FnOnce(&mut [W]) -> R) -> R {
    let f = |room: &mut [f32]| {
        f(W::of_f32s(room).expect("what is stored is computed in f32"))
    };
    if n <= ROOM {
        return HERE.with_borrow_mut(|room| f(&mut room.0[..n]));
    }
    MORE.with_borrow_mut(|room| {
        room.resize(room.len().max(n), 0.0);
        f(&mut room[..n])
    })
}
/// The first n numbers of what is free.
fn part<'a, W>(free: &mut &'a mut [W], n: usize) -> &'a mut [W] {
    let (part, rest) = take(free).split_at_mut(n);
    *free = rest;
    part
}

/// What a kernel writes.
pub(crate) struct Out<'a, T> {
    x: &'a mut [T],
    /// Width of a row.
    cols: usize,
    how: To<'a>,
}
enum To<'a> {
    Set,
    Change,
    Sum,
    Placed(&'a [usize]),
}
/// What a kernel reads.
pub(crate) struct In<'a, T> {
    x: &'a [T],
    cols: usize,
    how: From<'a>,
}
enum From<'a> {
    Rows,
    Whole,
    Picked(&'a [usize]),
}
/// Rows that are set.
pub(crate) fn set<T>(x: &mut [T], cols: usize) -> Out<'_, T> {
    Out { x, cols, how: To::Set }
}
/// Rows that are replaced or added to.
pub(crate) fn change<T>(x: &mut [T], cols: usize) -> Out<'_, T> {
    Out { x, cols, how: To::Change }
}
/// What every row adds to: it is rounded after the last.
pub(crate) fn sum<T>(x: &mut [T]) -> Out<'_, T> {
    Out { cols: x.len(), x, how: To::Sum }
}
/// Rows that are set, of which choice i stands at `slot[i]`.
pub(crate) fn placed<'a, T>(
    x: &'a mut [T], cols: usize, slot: &'a [usize],
) -> Out<'a, T> {
    Out { x, cols, how: To::Placed(slot) }
}
/// Rows that are read.
pub(crate) fn rows<T>(x: &[T], cols: usize) -> In<'_, T> {
    In { x, cols, how: From::Rows }
}
/// What every row reads.
pub(crate) fn whole<T>(x: &[T]) -> In<'_, T> {
    In { x, cols: x.len(), how: From::Whole }
}
/// Rows that are read, of which choice i stands at `slot[i]`.
pub(crate) fn picked<'a, T>(
    x: &'a [T], cols: usize, slot: &'a [usize],
) -> In<'a, T> {
    In { x, cols, how: From::Picked(slot) }
}
/// The slots of choices that are in the order of their rows.
pub(crate) fn in_order(choices: usize) -> &'static [usize] {
    static IN_ORDER: [usize; CHOICES] = {
        let mut all = [0; CHOICES];
        let mut i = 0;
        while i < CHOICES {
            all[i] = i;
            i += 1;
        }
        all
    };
    &IN_ORDER[..choices]
}

/// Calls `f` for n rows of these arguments, as numbers that are computed with:
/// once, with the arguments themselves, where they are such numbers; else for
/// some rows at a time, which `f` is told, with copies of them. What is written
/// is rounded when `f` returns.
///
/// Choices that are picked and placed come to `f` in the order of their rows:
/// their slots are [`in_order`].
pub(crate) fn in_wide<T: Real, const M: usize, const N: usize>(
    n: usize, outs: [Out<T>; M], ins: [In<T>; N],
    mut f: impl FnMut(Range<usize>, [&mut [T::Wide]; M], [&[T::Wide]; N]),
) {
    if !T::STORED {
        let own = "they are computed with as they are";
        let outs = outs.map(|o| T::wides_mut(o.x).expect(own));
        return f(0..n, outs, ins.map(|i| T::wides(i.x).expect(own)));
    }
    in_pieces(n, outs, ins, &mut f);
}
/// What a kernel is to [`in_pieces`], which so is compiled once for all of as
/// many arguments.
type Narrow<'a, W, const M: usize, const N: usize> =
    &'a mut dyn FnMut(Range<usize>, [&mut [W]; M], [&[W]; N]);
/// [`in_wide`] for numbers that are stored.
fn in_pieces<T: Real, const M: usize, const N: usize>(
    n: usize, outs: [Out<T>; M], ins: [In<T>; N], f: Narrow<T::Wide, M, N>,
) {
    // Numbers of one row, and those that all rows share.
    let (mut each, mut fixed, mut most) = (0, 0, n.max(1));
    let mut count = |cols: usize, all: bool, slot: Option<&[usize]>| {
        let choices = slot.map_or(1, |slot| slot.len() / n.max(1));
        match all {
            true => fixed += cols,
            false => each += cols * choices,
        }
        if slot.is_some() {
            assert!(choices <= CHOICES, "{choices} choices of a row");
            most = most.min(CHOICES / choices.max(1));
        }
        // of a row, the numbers; of all rows, those that they share
        cols * choices
    };
    let widths = outs.each_ref().map(|o| match o.how {
        To::Placed(slot) => count(o.cols, false, Some(slot)),
        To::Sum => count(o.cols, true, None),
        To::Set | To::Change => count(o.cols, false, None),
    });
    let of_ins = ins.each_ref().map(|i| match i.how {
        From::Picked(slot) => count(i.cols, false, Some(slot)),
        From::Whole => count(i.cols, true, None),
        From::Rows => count(i.cols, false, None),
    });
    let per = (PIECE.saturating_sub(fixed) / each.max(1)).clamp(1, most);
    let mut outs = outs;
    with_room(fixed + per * each, |mut free: &mut [T::Wide]| {
        let mut to: [&mut [T::Wide]; M] = from_fn(|i| match outs[i].how {
            To::Sum => {
                let sum = part(&mut free, widths[i]);
                T::widen(sum, outs[i].x);
                sum
            }
            _ => part(&mut free, per * widths[i]),
        });
        let mut from: [&mut [T::Wide]; N] = from_fn(|i| match ins[i].how {
            From::Whole => {
                let all = part(&mut free, of_ins[i]);
                T::widen(all, ins[i].x);
                all
            }
            _ => part(&mut free, per * of_ins[i]),
        });
        for start in (0..n).step_by(per) {
            let now = start..n.min(start + per);
            let part = |cols: usize| now.start * cols..now.end * cols;
            for ((o, to), &w) in outs.iter().zip(&mut to).zip(&widths) {
                if let To::Change = o.how {
                    T::widen(&mut to[..now.len() * w], &o.x[part(w)]);
                }
            }
            for ((i, from), &w) in ins.iter().zip(&mut from).zip(&of_ins) {
                match i.how {
                    From::Whole => {}
                    From::Rows => {
                        T::widen(&mut from[..now.len() * w], &i.x[part(w)]);
                    }
                    From::Picked(slot) => {
                        let d = i.cols;
                        let slots = &slot[part(w / d.max(1))];
                        for (to, s) in from.chunks_exact_mut(d).zip(slots) {
                            T::widen(to, &i.x[s * d..][..d]);
                        }
                    }
                }
            }
            let mut at = 0;
            let now_to = to.each_mut().map(|to| {
                let (o, w) = (&outs[at], widths[at]);
                at += 1;
                match o.how {
                    To::Sum => &mut to[..],
                    _ => &mut to[..now.len() * w],
                }
            });
            let mut at = 0;
            let now_from = from.each_ref().map(|from| {
                let (i, w) = (&ins[at], of_ins[at]);
                at += 1;
                match i.how {
                    From::Whole => &from[..],
                    _ => &from[..now.len() * w],
                }
            });
            f(now.clone(), now_to, now_from);
            for ((o, to), &w) in outs.iter_mut().zip(&to).zip(&widths) {
                match o.how {
                    To::Sum => {}
                    To::Set | To::Change => {
                        T::narrow(&mut o.x[part(w)], &to[..now.len() * w]);
                    }
                    To::Placed(slot) => {
                        let d = o.cols;
                        let slots = &slot[part(w / d.max(1))];
                        for (to, s) in to.chunks_exact(d).zip(slots) {
                            T::narrow(&mut o.x[s * d..][..d], to);
                        }
                    }
                }
            }
        }
        for (o, to) in outs.iter_mut().zip(&to) {
            if let To::Sum = o.how {
                T::narrow(o.x, to);
            }
        }
    });
}

/// Adds numbers that are stored to a sum.
///
/// # Panics
/// If the lengths differ.
#[track_caller]
pub(crate) fn add_wide<T: Real>(sum: &mut [T::Wide], x: &[T]) {
    assert_eq!(x.len(), sum.len(), "add_wide: x against sum");
    let add = |sum: &mut [T::Wide], x: &[T::Wide]| {
        sum.iter_mut().zip(x).for_each(|(sum, &x)| *sum += x);
    };
    if let Some(x) = T::wides(x) {
        return add(sum, x);
    }
    for (sum, x) in sum.chunks_mut(AT_ONCE).zip(x.chunks(AT_ONCE)) {
        let wide = &mut [T::Wide::ZERO; AT_ONCE][..x.len()];
        T::widen(wide, x);
        add(sum, wide);
    }
}
/// Numbers that [`add_wide`] widens at a time.
const AT_ONCE: usize = 256;

/// Columns of C that a product in f32 is given at a time.
const COLS: usize = 128;
/// Rows of C.
const ROWS: usize = 64;
/// Terms of a sum.
const DEEP: usize = 256;

/// C = A·B, or C + A·B, of numbers that are stored: `product` computes it in
/// f32, block by block, and each element is rounded once.
pub(crate) fn product_in_wide<T: Real>(
    mut c: MatMut<T>, op: Op, a: Mat<T>, b: Mat<T>,
    product: impl Fn(MatMut<T::Wide>, Op, Mat<T::Wide>, Mat<T::Wide>),
) {
    let [m, depth, n] = [c.rows, a.cols, c.cols];
    let room = COLS * ROWS + COLS * DEEP + ROWS * DEEP;
    with_room(room, |mut free: &mut [T::Wide]| {
        let to = part(&mut free, COLS * ROWS);
        let (of_b, of_a) = (part(&mut free, COLS * DEEP), free);
        for js in steps(n, COLS) {
            for is in steps(m, ROWS) {
                let c = c.reborrow().block(is.clone(), js.clone());
                let to = &mut to[..is.len() * js.len()];
                if op == Add {
                    for (i, to) in to.chunks_exact_mut(js.len()).enumerate() {
                        T::widen(to, &c.data[i * c.rs..][..js.len()]);
                    }
                }
                let mut op = op;
                for ks in steps(depth.max(1), DEEP) {
                    let ks = ks.start..ks.end.min(depth);
                    // One block of B serves all rows, if it has all terms.
                    let b = b.block(ks.clone(), js.clone());
                    let kept = is.start > 0 && depth <= DEEP;
                    let b = widened(of_b, b, kept);
                    let a = widened(of_a, a.block(is.clone(), ks), false);
                    product(mat_mut(to, js.len()), op, a, b);
                    op = Add;
                }
                for (i, to) in to.chunks_exact(js.len()).enumerate() {
                    T::narrow(&mut c.data[i * c.rs..][..js.len()], to);
                }
            }
        }
    });
}
/// 0..n in steps.
fn steps(n: usize, step: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n).step_by(step).map(move |i| i..n.min(i + step))
}
/// A copy of x, in the order in which x lies in memory; `kept` if it is there
/// already.
fn widened<'a, T: Real>(
    to: &'a mut [T::Wide], x: Mat<T>, kept: bool,
) -> Mat<'a, T::Wide> {
    if x.cs != 1 && x.rs == 1 {
        return widened(to, x.t(), kept).t();
    }
    let Mat { rows, cols, rs, cs, data } = x;
    let to = &mut to[..rows * cols];
    if !kept && cs == 1 && rs == cols {
        T::widen(to, &data[..rows * cols]);
    } else if !kept && cols > 0 {
        for (i, to) in to.chunks_exact_mut(cols).enumerate() {
            match cs {
                1 => T::widen(to, &data[i * rs..][..cols]),
                _ => (to.iter_mut().enumerate())
                    .for_each(|(j, to)| *to = data[i * rs + j * cs].wide()),
            }
        }
    }
    Mat { data: to, rows, cols, rs: cols, cs: 1 }
}
