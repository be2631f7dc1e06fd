//! How a case calls the submission.

use kit::Real;
use submission::sink::{
    sink_backward_scores, sink_backward_sink, sink_forward,
};

pub fn call<T: Real>(name: &str, sizes: &[usize], x: &[Vec<T>]) -> Vec<Vec<T>> {
    let unset = |n: usize| vec![T::of(f64::NAN); n];
    match (name, sizes, x) {
        ("forward", &[n], [z, sink, c]) => {
            let (mut p, mut rest) = (unset(z.len()), unset(n));
            sink_forward(&mut p, &mut rest, z, sink, c[0]);
            vec![p, rest]
        }
        ("scores", &[m], [dp, p, c]) => {
            let mut dz = unset(p.len());
            sink_backward_scores(&mut dz, dp, p, m, c[0]);
            vec![dz]
        }
        ("sink", _, [dsink, dp, p, rest, c]) => {
            let mut dsink = dsink.clone();
            sink_backward_sink(&mut dsink, dp, p, rest, c[0]);
            vec![dsink]
        }
        _ => panic!("there is no call {name}"),
    }
}
