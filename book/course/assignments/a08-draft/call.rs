//! How a case calls the submission.

use kit::Real;
use submission::draft::{acceptance, expected, rate, residual, round};

pub fn call<T: Real>(name: &str, sizes: &[usize], x: &[Vec<T>]) -> Vec<Vec<T>> {
    match (name, sizes, x) {
        ("acceptance", tokens, [p, q]) => {
            vec![tokens.iter().map(|&x| acceptance(p, q, x)).collect()]
        }
        ("rate", _, [p, q]) => vec![vec![rate(p, q)]],
        ("residual", _, [p, q]) => {
            let mut r = vec![T::of(f64::NAN); p.len()];
            residual(&mut r, p, q);
            vec![r]
        }
        ("round", drafted, [p, q, u]) => {
            let mut tokens = vec![usize::MAX; drafted.len() + 1];
            let n = round(&mut tokens, drafted, p, q, u);
            let tokens = tokens.into_iter().take(n);
            let number = |n| T::of(n as f64);
            vec![vec![number(n)], tokens.map(number).collect()]
        }
        ("expected", &[drafts], [a]) => vec![vec![expected(a[0], drafts)]],
        _ => panic!("there is no call {name}"),
    }
}
