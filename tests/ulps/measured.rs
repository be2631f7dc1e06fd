//! Chapter: elementary. All that is measured, in the order of the chapter's
//! table.

use crate::functions::{FUSED, OTHERS, exp_on};
use moe_by_hand::check::elementary::{FUNCTIONS, Function};
use moe_by_hand::elementary::SIN_COS_LIMIT;
use moe_by_hand::kernel::simd::Isa;

/// A function as it is measured: many numbers at a time, and where in its
/// figure a number belongs, if anywhere.
pub(crate) struct Measured {
    pub(crate) function: Function,
    pub(crate) run: fn(&Function, &[f32]) -> Vec<f32>,
    pub(crate) place: fn(f32) -> Option<i32>,
}

/// In the order of the chapter's table.
pub(crate) fn all() -> Vec<Measured> {
    let measured = |function: Function| Measured {
        function,
        run: |f, x| x.iter().map(|&x| (f.f)(x)).collect(),
        place: match function.name {
            "eˣ" => |x| Some(x.floor() as i32),
            "ln x" => |x| near_one(x),
            name if name.starts_with("sin") => |x| {
                // an eighth of each power of two, from 2⁻⁶ on
                let place = (x.to_bits() >> 20) as i32;
                (1.0 / 64.0..SIN_COS_LIMIT).contains(&x).then_some(place)
            },
            _ => |_| None,
        },
    };
    let mut all: Vec<Measured> = FUNCTIONS.map(measured).into();
    all.extend(OTHERS.map(measured));
    let run = |_: &Function, x: &[f32]| exp_on(Isa::best(), x);
    if Isa::best() != Isa::Portable {
        let place = |x: f32| Some(x.floor() as i32);
        all.insert(1, Measured { function: FUSED, run, place });
    }
    all
}
/// A sixteenth of each power of two from 2⁻⁵ to 2⁵.
fn near_one(x: f32) -> Option<i32> {
    let near = (1.0 / 32.0..32.0).contains(&x);
    near.then_some((x.to_bits() >> 19) as i32)
}
