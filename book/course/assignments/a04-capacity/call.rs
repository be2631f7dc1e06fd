//! How a case calls the submission.

use kit::Real;
use submission::capacity::{capacity, combine, combine_backward, fill};

pub fn call<T: Real>(name: &str, sizes: &[usize], x: &[Vec<T>]) -> Vec<Vec<T>> {
    let unset = |n: usize| vec![T::of(f64::NAN); n];
    let number = |n: usize| T::of(n as f64);
    let bools = |x: &[T]| x.iter().map(|&x| x > T::ZERO).collect::<Vec<_>>();
    match (name, sizes, x) {
        ("room", &[num, den, n, k, experts], _) => {
            vec![vec![number(capacity(num, den, n, k, experts))]]
        }
        ("fill", &[k, experts, room, ref chosen @ ..], _) => {
            let mut kept = vec![false; chosen.len()];
            fill(&mut kept, chosen, k, experts, room);
            vec![kept.iter().map(|&b| number(b.into())).collect()]
        }
        ("combine", &[k, d], [p, f, kept]) => {
            let n = p.len() / k;
            let (mut y, mut w) = (unset(n * d), unset(n * k));
            combine(&mut y, &mut w, p, f, &bools(kept), k);
            vec![y, w]
        }
        ("dp" | "df", &[k], [dy, p, w, f, kept]) => {
            let (mut dp, mut df) = (unset(p.len()), unset(f.len()));
            let kept = &bools(kept);
            combine_backward(&mut dp, &mut df, dy, p, w, f, kept, k);
            vec![if name == "dp" { dp } else { df }]
        }
        _ => panic!("there is no call {name}"),
    }
}
