//! How a case calls the submission.

use kit::Real;
use submission::steps::{Rates, adamw, growth, lion};

pub fn call<T: Real>(name: &str, sizes: &[usize], x: &[Vec<T>]) -> Vec<Vec<T>> {
    match (name, sizes, x) {
        // one gradient after the other
        ("lion", &[n, _], [theta, m, g, r]) => {
            let (mut theta, mut m) = (theta.clone(), m.clone());
            for g in g.chunks(n) {
                lion(&mut theta, &mut m, g, &rates(r));
            }
            vec![theta, m]
        }
        ("adamw", &[n, from], [theta, m, v, g, r]) => {
            let (mut theta, mut m) = (theta.clone(), m.clone());
            let mut v = v.clone();
            for (t, g) in g.chunks(n).enumerate() {
                let t = from + t;
                adamw(&mut theta, &mut m, &mut v, g, t, &rates(r));
            }
            vec![theta, m, v]
        }
        ("growth", &[t], [beta]) => vec![vec![growth(beta[0], beta[1], t)]],
        _ => panic!("there is no call {name}"),
    }
}
fn rates<T: Real>(r: &[T]) -> Rates<T> {
    let [lr, decay, beta1, beta2, eps] = r else { panic!("five rates") };
    let (lr, decay, eps) = (*lr, *decay, *eps);
    Rates { lr, decay, beta1: *beta1, beta2: *beta2, eps }
}
