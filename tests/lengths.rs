//! Chapter: tensors. Each plain kernel looks at its lengths before it computes:
//! a loop over zipped slices would stop at the shortest without a word. Twins
//! are in `tests/simd.rs`; here all runs in f64, which has none.

use moe_by_hand::half::Bf16;
use moe_by_hand::kernel::activation::{glu_backward, glu_forward};
use moe_by_hand::kernel::l1::{l1_normalize_backward, l1_normalize_forward};
use moe_by_hand::kernel::matrix::{Set, mat, mat_mut, matmul};
use moe_by_hand::kernel::softmax::{
    causal_softmax_backward, causal_softmax_forward, lse_backward,
    softmax_backward,
};
use moe_by_hand::kernel::vector::{add, add_to, axpy, dot};
use moe_by_hand::nn::attention::{Attention, Heads};
use moe_by_hand::nn::balance::{
    balance_backward, balance_forward, z_loss_backward,
};
use moe_by_hand::nn::embedding::{embedding_backward, embedding_forward};
use moe_by_hand::nn::linear::{linear_bias_backward, linear_bias_forward};
use moe_by_hand::nn::loss::{cross_entropy_backward, cross_entropy_forward};
use moe_by_hand::nn::moe::{
    Experts, Moe, combine_backward, combine_forward, dispatch, gather_backward,
    gather_forward,
};
use moe_by_hand::nn::rmsnorm::{rmsnorm_backward, rmsnorm_forward};
use moe_by_hand::nn::rope::{Rope, rope_forward};
use moe_by_hand::nn::router::{
    Router, renormalize_backward, renormalize_forward,
};
use moe_by_hand::params::{Builder, Layout};
use moe_by_hand::real::Real;
use moe_by_hand::train::muon::{Scratch, momentum, muon};
use moe_by_hand::train::optimizer::{Rates, adamw};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

type X = Vec<f64>;
/// A kernel with slices of these lengths, of which each is the only one that
/// fits the others.
type Case = (&'static str, &'static [usize], fn(&mut [X]));

/// As many whole numbers from 0 on: slots, tokens, or choices.
fn whole(x: &[f64]) -> Vec<usize> {
    (0..x.len()).collect()
}
const RATES: Rates = Rates { lr: 0.1, decay: 0.0, scale: 1.0, t: 1 };

macro_rules! cases {
    ($($name:ident [$($x:ident: $n:literal),+] $call:expr;)+) => {
        &[$((stringify!($name), &[$($n),+], |x| {
            let [$($x),+] = x else { panic!("as many slices") };
            $call;
        })),+]
    };
}
const CASES: &[Case] = cases![
    mat [x: 6] _ = mat(x, 3);
    mat_mut [x: 6] _ = mat_mut(x, 3);
    matmul [c: 6, a: 3, b: 2]
        matmul(mat_mut(c, 2), Set, mat(a, 1), mat(b, 2));
    dot [a: 5, b: 5] _ = dot(a, b);
    add [y: 5, a: 5, b: 5] add(y, a, b);
    axpy [y: 5, x: 5] axpy(y, 2.0, x);
    add_to [y: 5, x: 5] add_to(y, x);
    glu_forward [h: 5, gate: 5, up: 5] glu_forward(h, gate, up);
    glu_backward [dgate: 5, dup: 5, dh: 5, gate: 5, up: 5]
        glu_backward(dgate, dup, dh, gate, up);
    lse_backward [dz: 5, z: 5] lse_backward(dz, 1.0, z, 1.0);
    softmax_backward [d: 5, p: 5] softmax_backward(d, p);
    causal_softmax_forward [z: 9] causal_softmax_forward(z, 3, 0, 1, 1.0);
    causal_softmax_backward [d: 9, p: 9] causal_softmax_backward(d, p, 3, 1.0);
    l1_normalize_forward [y: 5, x: 5] l1_normalize_forward(y, x);
    l1_normalize_backward [dx: 5, dy: 5, x: 5, y: 5]
        l1_normalize_backward(dx, dy, x, y);
    renormalize_forward [w: 2, choice: 2]
        renormalize_forward(w, &[0.25; 4], &whole(choice));
    renormalize_backward [dw: 2, w: 2, choice: 2]
        renormalize_backward(&mut [0.0; 4], dw, w, &[0.25; 4], &whole(choice));
    balance_forward [count: 3, load: 3]
        _ = balance_forward(&whole(count), load, 3, 1);
    balance_backward [dload: 3, count: 3]
        balance_backward(dload, &whole(count), 3, 1, 1.0);
    z_loss_backward [dz: 3, p: 3] z_loss_backward(dz, 1.0, 1.0, p);
    embedding_forward [x: 15, table: 35, tokens: 3]
        embedding_forward(x, table, &whole(tokens));
    embedding_backward [dtable: 35, dx: 15, tokens: 3]
        embedding_backward(dtable, dx, &whole(tokens));
    linear_bias_forward [y: 5, b: 5] linear_bias_forward(y, b);
    linear_bias_backward [db: 5, dy: 5] linear_bias_backward(db, dy);
    rmsnorm_forward [y: 15, r: 3, x: 15, gain: 5]
        rmsnorm_forward(y, r, x, gain, 1e-5);
    rmsnorm_backward [dx: 15, dgain: 5, dy: 15, x: 15, gain: 5, r: 3]
        rmsnorm_backward(dx, dgain, dy, x, gain, r);
    rope_forward [x: 24] rope_forward(x, 4, 3, 0, &Rope::new(4, 3, 1e4));
    cross_entropy_forward [lse: 5, z: 35, target: 5]
        _ = cross_entropy_forward(lse, z, &whole(target));
    cross_entropy_backward [dz: 35, z: 35, lse: 5, target: 5]
        cross_entropy_backward(dz, z, lse, &whole(target), 1.0);
    dispatch [slot: 4, start: 4, choice: 4, count: 3]
        dispatch(
            &mut whole(slot), &mut whole(start),
            &[0, 0, 1, 2, 0][..choice.len()], &[2, 1, 1, 0][..count.len()],
        );
    gather_forward [sorted: 12, x: 6, slot: 6]
        gather_forward(sorted, x, &whole(slot), 2);
    gather_backward [dx: 6, dsorted: 12, slot: 6]
        gather_backward(dx, dsorted, &whole(slot), 2);
    combine_forward [y: 6, o: 12, w: 6, slot: 6]
        combine_forward(y, o, w, &whole(slot));
    combine_backward [d_o: 12, dw: 6, dy: 6, o: 12, w: 6, slot: 6]
        combine_backward(d_o, dw, dy, o, w, &whole(slot));
    adamw [p: 5, m: 5, v: 5, g: 5] adamw(p, m, v, g, RATES);
    momentum [u: 5, m: 5, g: 5] momentum(u, m, g, 1.0);
    muon [p: 4, u: 4] muon(p, u, 2, RATES, &mut Scratch::new(8, 4));
];

#[test]
fn one_length_that_does_not_fit_is_refused() {
    for &(name, lens, call) in CASES {
        let returns = |lens: &[usize]| {
            let mut x: Vec<X> = lens.iter().map(|&n| vec![0.5; n]).collect();
            catch_unwind(AssertUnwindSafe(|| call(&mut x))).is_ok()
        };
        assert!(returns(lens), "{name} {lens:?}");
        for i in 0..lens.len() {
            for n in [lens[i] - 1, lens[i] + 1] {
                let mut lens = lens.to_vec();
                lens[i] = n;
                assert!(!returns(&lens), "{name} {lens:?}");
            }
        }
    }
}

/// A token that is not below V is no row of the table, in any type.
#[test]
fn a_token_beyond_the_table_is_refused() {
    fn row<T: Real>(token: usize) -> bool {
        let (table, mut x) = ([T::ONE; 6], [T::ZERO; 2]);
        let row = || embedding_forward(&mut x, &table, &[token]);
        catch_unwind(AssertUnwindSafe(row)).is_ok()
    }
    for (token, there) in [(0, true), (2, true), (3, false), (9, false)] {
        let rows = [row::<f64>(token), row::<f32>(token), row::<Bf16>(token)];
        assert_eq!(rows, [there; 3], "token {token} of 3");
    }
}

/// What no config could ask for is refused by the layer itself.
#[test]
fn layers_that_cannot_be_are_refused() {
    let built = |build: &dyn Fn(&mut Layout)| {
        let build = || build(&mut Layout::default());
        catch_unwind(AssertUnwindSafe(build)).is_ok()
    };
    for (heads, kv_heads, can) in [(4, 2, true), (3, 2, false), (2, 4, false)] {
        let heads = Heads { heads, kv_heads, head: 2 };
        let new = |l: &mut Layout| {
            let rope = Arc::new(Rope::new(2, 2, 1e4));
            let _ = Attention::new(l.builder(), 4, heads, rope);
        };
        assert_eq!(built(&new), can, "{heads:?}");
    }
    for (k, can) in [(0, false), (1, true), (4, true), (5, false)] {
        let new = |l: &mut Layout| _ = Router::new(l.builder(), 4, 4, k);
        assert_eq!(built(&new), can, "{k} of 4 experts");
    }
    for (experts, top_k, can) in [(4, 2, true), (5, 2, false), (4, 1, false)] {
        let sizes = Experts { experts, top_k, intermediate: 3 };
        let new = |l: &mut Layout| {
            let router = |b: Builder| Router::new(b, 4, 4, 2);
            let _ = Moe::with(l.builder(), 4, sizes, router);
        };
        assert_eq!(built(&new), can, "{sizes:?} around 2 of 4");
    }
    for (start, can) in [(0, true), (2, true), (3, false)] {
        let turn = |_: &mut Layout| {
            let rope = Rope::new(2, 4, 1e4);
            rope_forward(&mut [1.0; 4], 2, 2, start, &rope);
        };
        assert_eq!(built(&turn), can, "two rows from {start} on, of 4");
    }
}
