//! How a case calls the submission.

use kit::Real;
use submission::tiles::{delta, finish, tile_backward, tile_forward};

pub fn call<T: Real>(name: &str, sizes: &[usize], x: &[Vec<T>]) -> Vec<Vec<T>> {
    let (&d, order) = sizes.split_first().expect("width, and tiles");
    match (name, x) {
        // the tiles as (from, to), in their order
        ("forward" | "sums", [q, k, v, c]) => {
            let mut y = vec![];
            let mut lse = vec![];
            for q in q.chunks(d) {
                let mut o = vec![T::ZERO; d];
                let (mut l, mut m) = (T::ZERO, T::of(f64::NEG_INFINITY));
                for tile in order.chunks(2) {
                    let at = tile[0] * d..tile[1] * d;
                    let (k, v) = (&k[at.clone()], &v[at]);
                    tile_forward(&mut o, &mut l, &mut m, q, k, v, c[0]);
                }
                if name == "sums" {
                    y.extend(o);
                    lse.extend([l, m]);
                } else {
                    lse.push(finish(&mut o, l, m));
                    y.extend(o);
                }
            }
            vec![y, lse]
        }
        ("finish", [o, l, m]) => {
            let mut y = o.clone();
            let lse = finish(&mut y, l[0], m[0]);
            vec![y, vec![lse]]
        }
        ("delta", [dy, y]) => {
            let rows = dy.chunks(d).zip(y.chunks(d));
            vec![rows.map(|(dy, y)| delta(dy, y)).collect()]
        }
        ("dq" | "dk" | "dv", [dy, lse, common, q, k, v, c]) => {
            let mut dq = vec![T::ZERO; q.len()];
            let [mut dk, mut dv] = [(); 2].map(|()| vec![T::ZERO; k.len()]);
            for i in 0..lse.len() {
                let row = i * d..(i + 1) * d;
                for tile in order.chunks(2) {
                    let at = tile[0] * d..tile[1] * d;
                    let n = at.len();
                    let [mut k1, mut v1] =
                        [(); 2].map(|()| vec![T::of(f64::NAN); n]);
                    tile_backward(
                        &mut dq[row.clone()],
                        &mut k1,
                        &mut v1,
                        &dy[row.clone()],
                        &q[row.clone()],
                        &k[at.clone()],
                        &v[at.clone()],
                        lse[i],
                        common[i],
                        c[0],
                    );
                    for (x, at) in at.enumerate() {
                        dk[at] += k1[x];
                        dv[at] += v1[x];
                    }
                }
            }
            vec![match name {
                "dq" => dq,
                "dk" => dk,
                _ => dv,
            }]
        }
        _ => panic!("there is no call {name}"),
    }
}
