//! How a case calls the submission.

use kit::Real;
use submission::window::{ring_step, slots, window_backward, window_forward};

pub fn call<T: Real>(name: &str, sizes: &[usize], x: &[Vec<T>]) -> Vec<Vec<T>> {
    let unset = |n: usize| vec![T::of(f64::NAN); n];
    match (name, sizes, x) {
        ("forward", &[t, w], [q, k, v, c]) => {
            let (mut y, mut lse) = (unset(q.len()), unset(t));
            window_forward(&mut y, &mut lse, q, k, v, w, c[0]);
            vec![y, lse]
        }
        ("dq" | "dk" | "dv", &[w], [dy, y, lse, q, k, v, c]) => {
            let [mut dq, mut dk, mut dv] = [(); 3].map(|()| unset(q.len()));
            window_backward(
                &mut dq, &mut dk, &mut dv, dy, y, lse, q, k, v, w, c[0],
            );
            vec![match name {
                "dq" => dq,
                "dk" => dk,
                _ => dv,
            }]
        }
        ("slots", &[w], _) => vec![vec![T::of(slots(w) as f64)]],
        ("ring", &[t, rows], [q, k, v, c]) => {
            let d = q.len() / t;
            let (mut keys, mut values) = (unset(rows * d), unset(rows * d));
            let mut y = unset(q.len());
            for (i, y) in y.chunks_mut(d).enumerate() {
                let [q, k, v] = [q, k, v].map(|x| &x[i * d..][..d]);
                ring_step(y, &mut keys, &mut values, i, q, k, v, c[0]);
            }
            vec![y]
        }
        _ => panic!("there is no call {name}"),
    }
}
