//! Chapter: sampling, kv-cache. What must hold of sampling and of the cache.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

#[path = "figures/counted.rs"]
mod counted;

use counted::{Counted, products};
use moe_by_hand::config::Config;
use moe_by_hand::error::Result;
use moe_by_hand::generate::{
    Decoder, Sampler, Stop, generate, rank, sample_inverse_cdf,
    sample_temperature, sample_top_k, sample_top_p,
};
use moe_by_hand::layer::Shape;
use moe_by_hand::model::Model;
use moe_by_hand::params::Params;
use moe_by_hand::real::Real;
use moe_by_hand::rng::Rng;
use moe_by_hand::tokens::Characters;

// ------------------------------------------------------------ the model

const CONTEXT: usize = 70;
const VOCAB: usize = 11;

/// Small, with weights so large that attention and routing are decided.
fn model(kv_heads: usize) -> Model {
    let tiny = Config::preset("tiny").expect("a preset");
    Model::new(Config {
        vocab: VOCAB,
        hidden: 12,
        heads: 4,
        kv_heads,
        head: 6,
        experts: 5,
        intermediate: 7,
        context: CONTEXT,
        init: 0.4,
        ..tiny
    })
    .expect("a valid config")
}
fn tokens(seed: u64, n: usize) -> Vec<usize> {
    let mut rng = Rng::new(seed, 1);
    (0..n).map(|_| rng.below(VOCAB)).collect()
}
/// Logits of the whole pass: [n, v]
fn full<T: Real>(m: &Model, p: &Params<T>, tokens: &[usize]) -> Vec<T> {
    let mut a = m.acts(Shape { batch: 1, time: tokens.len() }, false);
    m.forward(p, tokens, &mut a);
    a.head.y.to_vec()
}
fn argmax(z: &[f64]) -> usize {
    let best = |m: usize, i: usize| if z[i] > z[m] { i } else { m };
    (0..z.len()).reduce(best).expect("logits")
}

// ------------------------------------------------------------ sampling

/// With probability at least 1 − 10⁻⁹, χ² with f degrees of freedom is at
/// most f + 2√(f·x) + 2x, x = ln 10⁹ (Laurent & Massart 2000, lemma 1). With
/// the counts used here, all expected ones far above 5, Pearson's statistic
/// follows that distribution.
fn chi_square_bound(freedom: usize) -> f64 {
    let (f, x) = (freedom as f64, 1e9f64.ln());
    f + 2.0 * (f * x).sqrt() + 2.0 * x
}
/// Pearson's statistic Σ (Oᵢ − Eᵢ)²/Eᵢ of the counts of draws against p, and
/// its bound. What p forbids must not have been drawn at all.
fn chi_square(count: &[usize], p: &[f64]) -> (f64, f64) {
    let n = count.iter().sum::<usize>() as f64;
    let (mut sum, mut kept) = (0.0, 0);
    for (i, (&c, &p)) in count.iter().zip(p).enumerate() {
        if p == 0.0 {
            assert_eq!(c, 0, "token {i} is forbidden");
            continue;
        }
        assert!(n * p > 50.0, "too few draws for token {i}");
        sum += (c as f64 - n * p).powi(2) / (n * p);
        kept += 1;
    }
    (sum, chi_square_bound(kept - 1))
}
const LOGITS: [f64; 8] = [0.3, -1.2, 1.7, 0.0, 2.1, -0.4, 1.7, 0.9];

fn softmax(z: &[f64]) -> Vec<f64> {
    let sum: f64 = z.iter().map(|z| z.exp()).sum();
    z.iter().map(|z| z.exp() / sum).collect()
}

#[test]
fn draws_follow_the_probabilities() {
    // By hand: after division by the temperature, tokens 4, 2, 6, 7, 0 are
    // the largest five, of which the first three have 0.819 of the mass.
    let [warm, cold] = [1.0, 0.5].map(|t| softmax(&LOGITS.map(|z| z / t)));
    let only = |p: &[f64], keep: &[usize]| {
        let sum: f64 = keep.iter().map(|&i| p[i]).sum();
        let of = |i| if keep.contains(&i) { p[i] / sum } else { 0.0 };
        (0..p.len()).map(of).collect::<Vec<_>>()
    };
    let by_k = only(&warm, &[4, 2, 6, 7, 0]);
    let cases = [
        (Sampler::new(1.0, 0, 1.0), warm.clone()),
        (Sampler::new(0.5, 0, 1.0), cold.clone()),
        (Sampler::new(1.0, 5, 1.0), by_k.clone()),
        (Sampler::new(1.0, 2, 1.0), only(&warm, &[4, 2])), // 2 and 6 tie
        (Sampler::new(1.0, 0, 0.7), only(&warm, &[4, 2, 6])),
        (Sampler::new(1.0, 5, 0.8), only(&by_k, &[4, 2, 6])),
        (Sampler::new(0.5, 3, 0.99), only(&cold, &[4, 2, 6])),
    ];
    for (i, (sampler, want)) in cases.into_iter().enumerate() {
        let (mut sampler, mut rng) = (sampler.unwrap(), Rng::new(0, 0));
        for (a, b) in sampler.probabilities(&LOGITS).unwrap().iter().zip(&want)
        {
            assert!((a - b).abs() < 1e-15, "case {i}: {a} for {b}");
        }
        let mut count = [0; 8];
        for _ in 0..200_000 {
            count[sampler.sample(&LOGITS, &mut rng).unwrap()] += 1;
        }
        let (got, bound) = chi_square(&count, &want);
        assert!(got < bound, "case {i}: χ² = {got}, bound {bound}");
        if i == 0 {
            // The same draws are not those of a temperature 5 % higher.
            let other = softmax(&LOGITS.map(|z| z / 1.05));
            let (got, bound) = chi_square(&count, &other);
            assert!(got > bound, "the test cannot fail: {got}, {bound}");
        }
    }
}

#[test]
fn the_first_draw_of_every_seed_is_fair() {
    let mut sampler = Sampler::new(1.0, 0, 1.0).unwrap();
    let mut count = [0; 8];
    for seed in 0..50_000 {
        let mut rng = Rng::named(seed, "sample");
        count[sampler.sample(&LOGITS, &mut rng).unwrap()] += 1;
    }
    let (got, bound) = chi_square(&count, &softmax(&LOGITS));
    assert!(got < bound, "χ² = {got}, bound {bound}");
}

/// A sum that reaches the mass, and does not pass it, is enough.
#[test]
fn a_mass_that_is_reached_is_enough() {
    for (mass, kept) in [(0.5, 1), (0.75, 2), (0.76, 3), (1.0, 3)] {
        let mut p = [0.5, 0.25, 0.25];
        sample_top_p(&mut p, &[0, 1, 2], mass);
        let left = p.iter().filter(|p| **p > 0.0).count();
        assert_eq!(left, kept, "of mass {mass}: {p:?}");
    }
}

/// Whether anything is drawn or not: so the n-th token has the n-th number.
#[test]
fn each_token_takes_one_uniform_number() {
    for (temperature, top_k, top_p) in
        [(0.0, 0, 1.0), (0.8, 0, 1.0), (1.0, 2, 1.0), (1.0, 0, 0.5)]
    {
        let mut sampler = Sampler::new(temperature, top_k, top_p).unwrap();
        let (mut rng, mut other) = (Rng::new(3, 3), Rng::new(3, 3));
        sampler.sample(&[0.0, 1.0, 2.0], &mut rng).unwrap();
        other.uniform();
        assert_eq!(rng, other, "{sampler:?}");
    }
}

/// A cache can be made shorter, and not longer than what is in it.
#[test]
#[should_panic(expected = "truncate to 3 of 2 tokens")]
fn a_decoder_is_not_made_longer() {
    let m = model(1);
    let p = m.init::<f64>(3);
    let mut decoder = Decoder::new(&m);
    decoder.extend(&p, &[1, 2]).unwrap();
    decoder.truncate(3);
}

#[test]
fn what_is_cut_off_is_never_drawn() {
    let (v, mut rng, mut draw) = (50, Rng::new(7, 0), Rng::new(8, 0));
    for round in 0..40 {
        let mut z = vec![0.0; v];
        rng.fill_normal(&mut z, 2.0);
        z[round] = f64::NEG_INFINITY; // forbidden by the caller
        let (k, mass) = (1 + rng.below(v - 1), 1.0 - rng.uniform());
        // The definition, token by token: kept by top-k are those with fewer
        // than k ahead of them, by top-p those with less than p* ahead.
        let ahead = |i: usize| {
            let before = |j: &usize| z[*j] > z[i] || z[*j] == z[i] && *j < i;
            (0..v).filter(before).collect::<Vec<_>>()
        };
        let all = softmax(&z);
        let top_k: Vec<bool> = (0..v).map(|i| ahead(i).len() < k).collect();
        let sum: f64 = (0..v).filter(|&i| top_k[i]).map(|i| all[i]).sum();
        let both = |i: usize| {
            let before: f64 = ahead(i).iter().map(|&j| all[j]).sum();
            top_k[i] && before / sum < mass
        };
        let kept: Vec<bool> = (0..v).map(both).collect();
        assert!(kept.contains(&true), "something is always kept");
        let mut sampler = Sampler::new(1.0, k, mass).unwrap();
        let p = sampler.probabilities(&z).unwrap();
        let total: f64 = p.iter().sum();
        assert!((total - 1.0).abs() < 1e-14, "Σ p = {total}");
        for i in 0..v {
            let want = kept[i] && z[i] > f64::NEG_INFINITY;
            assert_eq!(p[i] > 0.0, want, "token {i}, k {k}, p {mass}");
        }
        for _ in 0..2000 {
            let token = sampler.sample(&z, &mut draw).unwrap();
            assert!(kept[token] && token != round, "{token} was cut off");
        }
    }
}

#[test]
fn the_ends_of_the_unit_interval_hit_no_masked_token() {
    let almost_1 = 1.0 - f64::EPSILON / 2.0; // the largest `Rng::uniform`
    let mut rng = Rng::new(3, 0);
    for _ in 0..2000 {
        let v = 3 + rng.below(30);
        let mut z = vec![0.0f64; v];
        rng.fill_normal(&mut z, 1.0);
        (z[0], z[v - 1]) = (-9.0, -9.0);
        let (mut p, mut order) = (vec![0.0; v], vec![0; v]);
        rank(&mut order, &z);
        sample_temperature(&mut p, &z, 1.0);
        match rng.below(2) {
            0 => sample_top_k(&mut p, &order, 1 + rng.below(v - 2)),
            _ => sample_top_p(&mut p, &order, 0.9),
        }
        let ends = [0.0, almost_1].map(|u| sample_inverse_cdf(&p, u));
        for token in ends {
            assert!(p[token] > 0.0, "{token} of {p:?}");
        }
    }
}

#[test]
fn temperature_goes_from_greedy_to_fair() {
    // Two equal largest logits stay equally likely at any temperature above
    // 0: greedy alone takes the first. Otherwise the limit is greedy.
    let mut rng = Rng::new(5, 0);
    for round in 0..200 {
        let mut z = vec![0.0f64; 20];
        rng.fill_normal(&mut z, 1.0);
        let best = argmax(&z);
        z[best] += 1.0;
        for t in [0.0, 5e-324, 1e-300, 1e-9, 1e-2] {
            let mut sampler = Sampler::new(t, 0, 1.0).unwrap();
            let token = sampler.sample(&z, &mut rng).unwrap();
            assert_eq!(token, best, "round {round}, temperature {t}");
        }
        let one = Sampler::new(1e300, 1, 1.0).unwrap().sample(&z, &mut rng);
        assert_eq!(one.unwrap(), best, "top-k of 1 is greedy");
        let mut hot = Sampler::new(1e300, 0, 1.0).unwrap();
        for p in hot.probabilities(&z).unwrap() {
            assert!((p - 0.05).abs() < 1e-15, "not fair: {p}");
        }
    }
    let mut greedy = Sampler::greedy();
    let ties = [1.0f32, 2.0, 2.0, 2.0];
    assert_eq!(greedy.sample(&ties, &mut rng).unwrap(), 1);
}

/// One line that has all of `parts`.
fn assert_error<T>(r: Result<T>, parts: &[&str]) {
    let Err(e) = r else { panic!("no error for {parts:?}") };
    let said = e.to_string();
    assert!(!said.contains('\n'), "more than one line: {said}");
    assert_eq!(e.exit_code(), 2, "{said}");
    for part in parts {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
}
#[test]
fn what_no_sampler_can_do_is_an_error() {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    for t in [-1.0, -1e-300, nan, inf, -inf] {
        let value = t.to_string();
        assert_error(Sampler::new(t, 0, 1.0), &["temperature", &value]);
    }
    for p in [0.0, -0.5, 1.0 + f64::EPSILON, nan, inf] {
        assert_error(Sampler::new(1.0, 0, p), &["top-p", &p.to_string()]);
    }
    for t in [0.0, 1.0] {
        let mut sampler = Sampler::new(t, 2, 0.9).unwrap();
        let mut try_on = |z: &[f64]| sampler.sample(z, &mut Rng::new(0, 0));
        assert_error(try_on(&[1.0, nan, 2.0]), &["token 1", "NaN"]);
        assert_error(try_on(&[1.0, 2.0, inf]), &["token 2", "inf"]);
        assert_error(try_on(&[-inf, -inf]), &["every logit"]);
        assert_error(try_on(&[]), &["every logit"]);
        assert_eq!(try_on(&[-inf, 1.0, -inf]).unwrap(), 1);
    }
}

// ------------------------------------------------------------ the cache

fn assert_near(got: &[f64], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (a, b)) in got.iter().zip(want).enumerate() {
        let bound = 1e-12 * b.abs().max(1.0);
        assert!((a - b).abs() <= bound, "{what}, logit {i}: {a} for {b}");
    }
}
#[test]
fn any_split_gives_the_logits_of_the_whole_pass() {
    for kv in [1, 2, 4] {
        let m = model(kv);
        let (p, tokens) = (m.init::<f64>(3), tokens(kv as u64, CONTEXT));
        let whole = full(&m, &p, &tokens);
        let row = |t: usize| &whole[(t - 1) * VOCAB..t * VOCAB];
        // The last logits depend on the far past, and on its order.
        let (mut other, mut swapped) = (tokens.clone(), tokens.clone());
        other[0] = (other[0] + 1) % VOCAB;
        swapped[..20].reverse();
        for changed in [other, swapped] {
            let z = full(&m, &p, &changed);
            let last = z[z.len() - VOCAB..].iter().zip(row(CONTEXT));
            let far = last.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(far > 1e-3, "{kv} key heads: a change moves {far}");
        }
        let mut decoder = Decoder::new(&m);
        for prompt in 1..=CONTEXT {
            decoder.reset();
            let z = decoder.extend(&p, &tokens[..prompt]).unwrap();
            assert_near(z, row(prompt), &format!("prompt of {prompt}"));
            for t in prompt..CONTEXT {
                let z = decoder.step(&p, tokens[t]).unwrap();
                let what = format!("step {t} after {prompt}, {kv} key heads");
                assert_near(z, row(t + 1), &what);
            }
        }
        for split in [[1, 32, 37], [33, 1, 36], [3, 66, 1], [31, 33, 6]] {
            let (mut decoder, mut at) = (Decoder::new(&m), 0);
            for n in split {
                let part = &tokens[at..at + n];
                at += n;
                let z = decoder.extend(&p, part).unwrap();
                assert_near(z, row(at), &format!("{split:?} at {at}"));
            }
            assert_eq!(decoder.room(), 0, "{split:?}");
        }
    }
}

/// With one block a windowed position is the last one of the window alone:
/// positions turn queries and keys, so only their distance counts.
#[test]
fn a_window_sees_its_own_length_and_no_more() {
    let m = model(2);
    let m = Model::new(Config { layers: 1, ..m.config }).unwrap();
    let (p, tokens) = (m.init::<f64>(3), tokens(5, CONTEXT));
    for window in [1, 2, 7, CONTEXT] {
        let mut decoder = Decoder::with_window(&m, window);
        decoder.extend(&p, &tokens[..9]).unwrap();
        for t in 9..CONTEXT {
            let z = decoder.step(&p, tokens[t]).unwrap();
            let seen = (t + 1).saturating_sub(window);
            let want = full(&m, &p, &tokens[seen..=t]);
            let last = &want[want.len() - VOCAB..];
            assert_near(z, last, &format!("window {window} at {t}"));
        }
    }
}

#[test]
fn a_decoder_refuses_and_stays_as_it_was() {
    let m = model(2);
    let (p, tokens) = (m.init::<f64>(3), tokens(0, CONTEXT));
    let mut decoder = Decoder::new(&m);
    assert_error(decoder.extend(&p, &[]), &["prompt", "empty"]);
    decoder.extend(&p, &tokens[..5]).unwrap();
    let (v, long) = (VOCAB.to_string(), vec![0; CONTEXT - 4]);
    assert_error(decoder.extend(&p, &[1, VOCAB]), &["token", &v]);
    assert_error(decoder.extend(&p, &long), &["71", "context holds 70"]);
    let z = decoder.extend(&p, &tokens[5..]).unwrap();
    let whole = full(&m, &p, &tokens);
    assert_near(z, &whole[(CONTEXT - 1) * VOCAB..], "after refusals");
    assert_error(decoder.step(&p, 0), &["71", "context holds 70"]);
}

// ------------------------------------------------------- the work of a step

#[test]
fn a_step_costs_its_length_and_the_whole_pass_the_square() {
    let m = Config { context: 128, ..model(2).config };
    let (m, tokens) = (Model::new(m).unwrap(), tokens(9, 128));
    let p = m.init::<Counted>(3);
    let mut decoder = Decoder::new(&m);
    // The step that makes the sequence T tokens long.
    let mut step = |t: usize| {
        decoder.reset();
        decoder.extend(&p, &tokens[..t - 1]).unwrap();
        products(|| {
            decoder.step(&p, tokens[t - 1]).unwrap();
        })
    };
    let [s8, s16, s32, s64] = [8, 16, 32, 64].map(&mut step);
    // a + b·T: twice the distance, twice the difference.
    assert_eq!(s32 - s16, 2 * (s16 - s8), "{s8} {s16} {s32}");
    assert_eq!(s64 - s32, 4 * (s16 - s8), "{s8} {s16} {s64}");
    // b: for each earlier position, layer and head, dₕ products for the score
    // and dₕ for the mixture, and at most one more for each to scale.
    let c = &m.config;
    let pairs = (c.layers * c.heads) as i64;
    let b = (s16 - s8) / 8;
    let least = pairs * 2 * c.head as i64;
    assert!((least..=least + 2 * pairs).contains(&b), "{b} against {least}");

    let whole = |t: usize| {
        products(|| {
            full(&m, &p, &tokens[..t]);
        })
    };
    let [f32, f64, f96, f128] = [32, 64, 96, 128].map(whole);
    // a + b·T + c·T²: equal second differences, 2c·32². Attention works on 32
    // positions at a time, which see (T + 32)/2 keys on average.
    let second = f96 - 2 * f64 + f32;
    assert_eq!(f128 - 2 * f96 + f64, second, "{f32} {f64} {f96} {f128}");
    let square = 32 * 32 * least;
    assert!(second >= square, "{second}: the square is missing");
    assert!(second < square * 3 / 2, "{second}: the mask saves nothing");
    // So to write 64 tokens costs less than two whole passes, with the cache.
    assert!(64 * s64 < 2 * f64, "{s64} {f64}");

    // Of a prompt the last row alone goes through the head.
    decoder.reset();
    let last = products(|| {
        decoder.extend(&p, &tokens[..64]).unwrap();
    });
    decoder.reset();
    let all = products(|| {
        decoder.extend_all(&p, &tokens[..64]).unwrap();
    });
    let heads = 63 * (c.hidden * c.vocab) as i64;
    assert!(all - last >= heads, "{all} less {last} against {heads}");
}

// ------------------------------------------------------------ generation

fn written(
    m: &Model, p: &Params<f64>, prompt: &[usize], max: usize, s: Sampler,
    seed: u64,
) -> (Vec<usize>, Stop) {
    let (mut out, mut s) = (vec![], s);
    let mut rng = Rng::new(seed, 0);
    let mut d = Decoder::new(m);
    let stop = generate(&mut d, p, prompt, max, &mut s, &mut rng, |t| {
        out.push(t);
        true
    });
    (out, stop.unwrap())
}
#[test]
fn greedy_is_the_largest_logit_of_the_whole_pass() {
    for kv in [1, 2] {
        let m = model(kv);
        let p = m.init::<f64>(3);
        let mut text = tokens(1, 4);
        let greedy = Sampler::greedy();
        let (got, _) = written(&m, &p, &text, 30, greedy, 0);
        for (i, token) in got.into_iter().enumerate() {
            let z = full(&m, &p, &text);
            let want = argmax(&z[z.len() - VOCAB..]);
            assert_eq!(token, want, "token {i}, {kv} key heads");
            text.push(token);
        }
    }
}
#[test]
fn a_seed_decides_every_token() {
    let m = model(1);
    let p = m.init::<f64>(3);
    let warm = Sampler::new(1.0, 0, 1.0).unwrap();
    let of = |seed| written(&m, &p, &[1, 2], 40, warm.clone(), seed).0;
    for seed in 0..5 {
        assert_eq!(of(seed), of(seed), "seed {seed}");
        assert_ne!(of(seed), of(seed + 1), "seed {seed} and the next");
    }
}
#[test]
fn generation_ends_where_it_must() {
    let m = model(1);
    let p = m.init::<f64>(3);
    let warm = || Sampler::new(1.0, 0, 1.0).unwrap();
    let of = |n, max| {
        let (out, stop) = written(&m, &p, &tokens(2, n), max, warm(), 0);
        (out.len(), stop)
    };
    assert_eq!(of(3, 0), (0, Stop::Length));
    assert_eq!(of(3, 5), (5, Stop::Length));
    // A full context still tells what follows it.
    assert_eq!(of(CONTEXT, 5), (1, Stop::Context));
    assert_eq!(of(CONTEXT, 1), (1, Stop::Length));
    assert_eq!(of(CONTEXT - 2, 3), (3, Stop::Length));
    assert_eq!(of(CONTEXT - 2, 4), (3, Stop::Context));
    let mut left = 3;
    let (mut s, mut rng) = (warm(), Rng::new(0, 0));
    let mut d = Decoder::new(&m);
    let stop = generate(&mut d, &p, &[1], 9, &mut s, &mut rng, |_| {
        left -= 1;
        left > 0
    });
    assert_eq!((stop.unwrap(), left), (Stop::Caller, 0));
}
#[test]
fn generation_refuses_what_it_cannot_continue() {
    let m = model(1);
    let p = m.init::<f64>(3);
    let mut made = 0;
    let mut of = |p: &Params<f64>, prompt: &[usize]| {
        let mut s = Sampler::new(1.0, 0, 1.0).unwrap();
        generate(
            &mut Decoder::new(&m),
            p,
            prompt,
            9,
            &mut s,
            &mut Rng::new(0, 0),
            |_| {
                made += 1;
                true
            },
        )
    };
    assert_error(of(&p, &[]), &["prompt", "empty"]);
    assert_error(of(&p, &[0; CONTEXT + 1]), &["71", "70"]);
    assert_error(of(&p, &[0, VOCAB]), &["position 1", "11"]);
    let mut broken = p.clone();
    broken.data.fill(f64::NAN);
    assert_error(of(&broken, &[0]), &["logit", "NaN"]);
    assert_eq!(made, 0, "tokens before an error");
}

// ------------------------------------------------------------ text

#[test]
fn text_is_the_standard_librarys_lossy_one() {
    // Bytes that often begin or continue a character.
    let bytes = [0x41, 0x7f, 0x80, 0xa0, 0xbf, 0xc3, 0xe2, 0xed, 0xf0, 0xff];
    let mut rng = Rng::new(1, 0);
    for round in 0..5000 {
        let of = |_| bytes[rng.below(bytes.len())];
        let mut all: Vec<u8> = (0..20).map(of).collect();
        if round == 0 {
            all = "Größe, “naïve” 漢字 🦀".into();
        }
        let (mut text, mut got) = (Characters::default(), String::new());
        for &b in &all {
            got += text.push(b as usize);
        }
        got += text.finish();
        assert_eq!(got, String::from_utf8_lossy(&all), "{all:x?}");
    }
    // As soon as it can be: nothing of 🦀 before its last byte, all with it.
    let mut text = Characters::default();
    let crab = "🦀".bytes().map(|b| text.push(b as usize).to_string());
    assert_eq!(crab.collect::<Vec<_>>(), ["", "", "", "🦀"]);
    assert_eq!(text.push(0xe2), "");
    assert_eq!(text.push(256), "\u{fffd}<256>");
}
