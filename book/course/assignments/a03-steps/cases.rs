//! The cases, from the formulas alone.

use crate::Case;
use crate::dual::Rng;

pub fn cases(variant: &str, rng: &mut Rng) -> Vec<Case> {
    let second = variant == "second";
    let mut cases = vec![];
    let mut case = |task, name: String, call, sizes, inputs, outputs, limit| {
        cases.push(Case { task, name, call, sizes, inputs, outputs, limit });
    };
    for (task, n, steps) in [
        ("1", 1, 1),
        ("1", rng.between(2, 6), 1),
        ("1", 40, 1),
        ("2", rng.between(2, 6), 3),
        ("2", 5, rng.between(6, 12)),
    ] {
        let r = rates(rng);
        let [lr, decay, beta1, beta2, _] = r[..] else { unreachable!() };
        let (theta0, mut m0) = (rng.normals(n, 1.0), rng.normals(n, 0.5));
        let mut g0 = rng.normals(n * steps, 1.0);
        if steps > 1 {
            // a weight without a gradient stands still, but for the decay
            m0[0] = 0.0;
            g0.iter_mut().step_by(n).for_each(|g| *g = 0.0);
        }
        let (mut theta, mut m) = (theta0.clone(), m0.clone());
        for g in g0.chunks(n) {
            for i in 0..n {
                let c = beta1 * m[i] + (1.0 - beta1) * g[i];
                let sign = if c == 0.0 { 0.0 } else { c.signum() };
                theta[i] -= lr * (sign + decay * theta[i]);
                m[i] = beta2 * m[i] + (1.0 - beta2) * g[i];
            }
        }
        let name = format!("{n} weights, {steps} steps of Lion");
        let inputs = vec![theta0, m0, g0, r];
        let outputs = vec![("theta", theta), ("m", m)];
        let limit = 45 * n * steps + 20;
        case(task, name, "lion", vec![n, 0], inputs, outputs, limit);
    }
    for (task, n, from, steps) in [
        ("3", 1, 1, 1),
        ("3", rng.between(2, 6), 1, 1),
        ("3", 40, rng.between(2, 5), 1),
        ("4", rng.between(2, 6), 1, 5),
        ("4", 4, rng.between(2, 9), 7),
    ] {
        let r = rates(rng);
        let [lr, decay, beta1, beta2, eps] = r[..] else { unreachable!() };
        let (theta0, m0) = (rng.normals(n, 1.0), rng.normals(n, 0.5));
        let v0: Vec<f64> = rng.normals(n, 0.5).iter().map(|v| v * v).collect();
        let g0 = rng.normals(n * steps, 1.0);
        let (mut theta, mut m) = (theta0.clone(), m0.clone());
        let mut v = v0.clone();
        for (t, g) in g0.chunks(n).enumerate() {
            let t = (from + t) as i32;
            for i in 0..n {
                m[i] = beta1 * m[i] + (1.0 - beta1) * g[i];
                v[i] = beta2 * v[i] + (1.0 - beta2) * g[i] * g[i];
                let hat = |x: f64, beta: f64| x / (1.0 - beta.powi(t));
                let over = if second { hat(m[i], beta1) } else { m[i] };
                let under = if second { v[i] } else { hat(v[i], beta2) };
                let step = over / (under.sqrt() + eps);
                theta[i] -= lr * (step + decay * theta[i]);
            }
        }
        let name = format!("{n} weights, steps {from} to {}", from + steps - 1);
        let inputs = vec![theta0, m0, v0, g0, r];
        let outputs = vec![("theta", theta), ("m", m), ("v", v)];
        let limit = 60 * n * steps + 10 * steps * (from + steps);
        case(task, name, "adamw", vec![n, from], inputs, outputs, limit);
    }
    for t in [1, rng.between(2, 5), rng.between(20, 40)] {
        let beta = vec![0.8 + 0.15 * rng.uniform(), 0.9 + 0.09 * rng.uniform()];
        let power = |beta: f64| 1.0 - beta.powi(t as i32);
        let growth =
            if second { 1.0 / power(beta[1]).sqrt() } else { power(beta[0]) };
        let (name, inputs) = (format!("step {t}"), vec![beta]);
        let outputs = vec![("growth", vec![growth])];
        case("5", name, "growth", vec![t], inputs, outputs, 8 * t + 20);
    }
    cases
}
/// η, λ, β₁, β₂ and ϵ, the last one large enough to show.
fn rates(rng: &mut Rng) -> Vec<f64> {
    let mut between = |low, high| low + (high - low) * rng.uniform();
    let (lr, decay) = (between(0.01, 0.1), between(0.05, 0.3));
    let (beta1, beta2) = (between(0.8, 0.95), between(0.9, 0.99));
    vec![lr, decay, beta1, beta2, between(0.01, 0.1)]
}
