//! How a case calls the submission.

use kit::Real;
use submission::bias::{
    balance, choose, share, share_backward, weights, weights_backward,
};

pub fn call<T: Real>(name: &str, sizes: &[usize], x: &[Vec<T>]) -> Vec<Vec<T>> {
    let unset = |n: usize| vec![T::of(f64::NAN); n];
    let number = |n: &usize| T::of(*n as f64);
    match (name, sizes, x) {
        ("choose", &[k], [z, bias]) => {
            let mut chosen = vec![usize::MAX; z.len() / bias.len() * k];
            choose(&mut chosen, z, bias, k);
            vec![chosen.iter().map(number).collect()]
        }
        ("weights", &[k, ref chosen @ ..], [z, c]) => {
            let mut w = unset(chosen.len());
            weights(&mut w, z, chosen, k, c[0]);
            vec![w]
        }
        ("scores", &[k, ref chosen @ ..], [z, dw, c]) => {
            let mut dz = unset(z.len());
            weights_backward(&mut dz, dw, z, chosen, k, c[0]);
            vec![dz]
        }
        ("share", _, [a, shared, w, f]) => {
            let mut y = unset(shared.len());
            share(&mut y, a, shared, w, f);
            vec![y]
        }
        ("gates", &[k], [dy, a, shared, f]) => {
            let (mut da, mut dw) = (unset(a.len()), unset(a.len() * k));
            share_backward(&mut da, &mut dw, dy, a, shared, f);
            vec![da, dw]
        }
        ("balance", chosen, [bias, u]) => {
            let mut bias = bias.clone();
            balance(&mut bias, chosen, u[0]);
            vec![bias]
        }
        _ => panic!("there is no call {name}"),
    }
}
