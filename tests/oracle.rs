//! Chapter: gradcheck. T6: activations, losses, every gradient, optimizer steps
//! and greedy tokens against `PyTorch`; and that this comparison can fail.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::edit::{Dir, Tensor, Tensors};
use moe_by_hand::hf;
use moe_by_hand::kernel::l1::{l1_normalize_backward, l1_normalize_forward};
use moe_by_hand::oracle::{Report, compare};
use moe_by_hand::real::Real;
use safetensors::Dtype;
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};

/// All groups, in the order in which they are compared.
const GROUPS: [&str; 25] = [
    "rope_inv_freq",
    "rope_perm",
    "hidden",
    "mid",
    "router_probs",
    "selected",
    "topk_weights",
    "final_norm",
    "logits",
    "loss_per_token",
    "loss_ce",
    "loss_aux",
    "aux_coef",
    "loss_total",
    "f32.logits",
    "f32.loss",
    "grad",
    "grad_ce",
    "grad_aux",
    "gen.tokens",
    "step1",
    "step2",
    "step3",
    "train",
    "f32.train",
];
/// What no group compares: the inputs, the margins, another library's loss.
const NOT_COMPARED: usize = 8;

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle").join(name)
}
fn failing(report: &Report) -> Vec<&str> {
    let failing = report.groups.iter().filter(|g| !g.ok());
    failing.map(|g| g.name.as_str()).collect()
}
/// Every bound is kept, and every tensor of the file was really compared.
fn assert_all(name: &str, shards: usize) {
    let report = compare(&directory(name), shards).unwrap();
    assert!(report.ok, "in {shards} shards\n{report}");
    let names: Vec<&str> =
        report.groups.iter().map(|g| g.name.as_str()).collect();
    assert_eq!(names, GROUPS, "the groups, in order");
    assert!(report.groups.iter().all(|g| g.absent.is_empty()), "{report}");
    assert!(report.unknown.is_empty(), "{report}");
    let path = directory(name).join("reference.safetensors");
    let file = moe_by_hand::tensors::Tensors::open(&path).unwrap();
    let compared: usize = report.groups.iter().map(|g| g.tensors).sum();
    let there = file.names().count();
    assert_eq!(compared, there - NOT_COMPARED, "all but the inputs");
    for g in &report.groups {
        assert_eq!(g.f64.is_none(), g.name.starts_with("f32."), "{}", g.name);
        assert!(g.f32.is_some(), "{}", g.name);
    }
}

#[test]
fn tiny() {
    assert_all("tiny", 1);
}
#[test]
fn grouped_heads_and_ntk() {
    assert_all("gqa-ntk", 1);
}
#[test]
fn in_two_shards() {
    assert_all("tiny", 2);
    assert_all("gqa-ntk", 2);
}

/// The weights of `tiny` as transformers 5 writes them: in several files, and with
/// the experts joined.
#[test]
fn the_kinds_of_files_hold_the_same_model() {
    let tiny = directory("tiny");
    let (model, p) = hf::load::<f32>(&tiny).unwrap();
    for name in ["sharded", "fused"] {
        let dir = Dir::copy_of(&directory(name));
        let (m, q) = hf::load::<f32>(&dir.0).unwrap();
        assert_eq!((m.config, q), (model.config.clone(), p.clone()), "{name}");
        let file = "reference.safetensors";
        fs::copy(tiny.join(file), dir.0.join(file)).unwrap();
        let report = compare(&dir.0, 1).unwrap();
        assert!(report.ok && report.missing.is_empty(), "{name}\n{report}");
    }
}
#[test]
fn a_tied_head_is_the_embedding() {
    let dir = directory("tied");
    let report = compare(&dir, 1).unwrap();
    assert!(report.ok, "{report}");
    let grad = report.groups.iter().find(|g| g.name == "grad").unwrap();
    assert!(grad.absent.is_empty(), "{report}");
    let (model, p) = hf::load::<f32>(&dir).unwrap();
    assert!(model.config.tied);
    // saved with a head of its own, in a config that says so
    let saved = Dir::new();
    hf::save(&saved.0, &model, &p).unwrap();
    let (again, q) = hf::load::<f32>(&saved.0).unwrap();
    assert!(!again.config.tied && p == q);
}
/// Attention's four maps with biases, which Mixtral does not have: by plain
/// `PyTorch`, with all gradients, and without steps.
#[test]
fn biases_of_attention() {
    let dir = directory("bias");
    for shards in [1, 2] {
        let report = compare(&dir, shards).unwrap();
        assert!(report.ok && report.unknown.is_empty(), "{report}");
        let of = |name: &str| report.groups.iter().find(|g| g.name == name);
        for name in ["hidden", "mid", "selected", "logits", "loss_total"] {
            assert!(of(name).unwrap().absent.is_empty(), "{name}: {report}");
        }
        let grad = of("grad").unwrap();
        assert!(grad.absent.is_empty(), "{report}");
        let (model, _) = hf::load::<f32>(&dir).unwrap();
        assert_eq!(grad.tensors, model.layout.entries.len(), "every gradient");
    }
    // A bias that is lost, or its gradient: both are seen.
    let name = "model.layers.0.self_attn.k_proj.bias";
    let dir = Dir::copy_of(&dir);
    dir.edit("model.safetensors", |t| t.get_mut(name).unwrap().add(2, 1e-6));
    let report = compare(&dir.0, 1).unwrap();
    assert!(failing(&report).contains(&"logits"), "{report}");
    let dir = Dir::copy_of(&directory("bias"));
    dir.edit("reference.safetensors", |t| {
        t.get_mut(&format!("grad.{name}")).unwrap().add(2, 3e-9);
    });
    assert_eq!(failing(&compare(&dir.0, 1).unwrap()), ["grad"]);
}

/// Rows that `torch.nn.functional.normalize` divided by their L1 norms.
#[derive(Deserialize)]
struct Row {
    x: Vec<f64>,
    dy: Vec<f64>,
    y: Vec<f64>,
    dx: Vec<f64>,
}
#[test]
fn rows_divided_by_their_sums() {
    let text = fs::read_to_string(directory("l1.json")).unwrap();
    let rows: Vec<Row> = serde_json::from_str(&text).unwrap();
    assert!(rows.len() == 5 && rows.iter().any(|r| r.x.contains(&0.0)));
    fn numbers<T: Real>(x: &[f64]) -> Vec<T> {
        x.iter().map(|&x| T::of(x)).collect()
    }
    fn off<T: Real>(r: &Row) -> f64 {
        let (x, dy) = (numbers::<T>(&r.x), numbers::<T>(&r.dy));
        let [mut y, mut dx] = [(); 2].map(|()| numbers::<T>(&r.y));
        l1_normalize_forward(&mut y, &x);
        l1_normalize_backward(&mut dx, &dy, &x, &y);
        let ours = y.iter().chain(&dx).map(|v| v.f64());
        let theirs = r.y.iter().chain(&r.dx);
        let off =
            ours.zip(theirs).map(|(a, b)| (a - b).abs() / b.abs().max(1.0));
        off.fold(0.0, f64::max)
    }
    for r in &rows {
        let (f64s, f32s) = (off::<f64>(r), off::<f32>(r));
        assert!(f64s < 1e-14 && f32s < 1e-5, "{:?}: {f64s:e} {f32s:e}", r.x);
    }
}
/// What 320 kB asked for: 40,000 steps of the optimizer, or as many tokens, or a
/// sequence as long as that.
#[test]
fn what_a_directory_asks_for_is_counted_before_it_is_made() {
    let n = 40_000;
    let numbers = |n: usize, dtype| Tensor {
        dtype,
        shape: vec![n],
        data: vec![0; 8 * n],
    };
    let said =
        after(|t| drop(t.insert("train.lr".into(), numbers(n, Dtype::F64))));
    let said = said.unwrap_err();
    assert!(said.contains("train.lr") && said.contains("1000"), "{said}");
    let said =
        after(|t| drop(t.insert("gen.tokens".into(), numbers(n, Dtype::I64))));
    let said = said.unwrap_err();
    assert!(said.contains("gen.tokens") && said.contains("1000"), "{said}");
    let n = 400_000; // n² scores are more than any machine holds
    let said = after(|t| {
        for name in ["input_ids", "labels"] {
            let mut long = numbers(n, Dtype::I64);
            long.shape = vec![1, n];
            t.insert(name.into(), long);
        }
    });
    if moe_by_hand::memory::available().is_some() {
        let said = said.unwrap_err();
        assert!(
            said.contains("memory") && said.contains("available"),
            "{said}"
        );
    }
}

/// The report on a copy of `tiny` whose reference was changed.
fn after(change: impl FnOnce(&mut Tensors)) -> Result<Report, String> {
    let dir = Dir::copy_of(&directory("tiny"));
    dir.edit("reference.safetensors", change);
    compare(&dir.0, 1).map_err(|e| e.to_string())
}
#[test]
fn one_changed_number_fails_its_group_alone() {
    let good = compare(&directory("tiny"), 1).unwrap();
    let mut names: Vec<String> = vec![];
    for g in &good.groups {
        let worst = g.f32.as_ref().unwrap();
        let tensor = worst.tensor.clone();
        // f32 has to see it too: above its bound, which holds the slack
        let much = 10.0 * worst.bound;
        let report = after(|t| {
            let t = t.get_mut(&tensor).unwrap();
            let at = worst.index.iter().zip(&t.shape);
            let at = at.fold(0, |at, (i, n)| at * n + i);
            t.add(at, much);
        });
        let report = report.unwrap();
        assert_eq!(failing(&report), [&g.name], "{tensor}\n{report}");
        let bad = report.groups.iter().find(|b| b.name == g.name).unwrap();
        for w in bad.f64.iter().chain(&bad.f32) {
            assert!(!w.ok, "{tensor}: {w:?}");
            assert_eq!((&w.tensor, &w.index), (&tensor, &worst.index));
        }
        assert!(report.to_string().contains(&tensor), "{report}");
        names.push(tensor);
    }
    assert_eq!(names.len(), GROUPS.len());
}
#[test]
fn what_f32_cannot_see_f64_does() {
    for name in ["logits", "grad.lm_head.weight", "step3.lm_head.weight"] {
        let report = after(|t| t.get_mut(name).unwrap().add(7, 3e-9)).unwrap();
        let group = name.split('.').next().unwrap();
        assert_eq!(failing(&report), [group], "{report}");
        let bad = report.groups.iter().find(|g| g.name == group).unwrap();
        assert!(bad.f32.as_ref().unwrap().ok, "{report}");
    }
}
#[test]
fn a_changed_weight_fails_what_depends_on_it() {
    let dir = Dir::copy_of(&directory("tiny"));
    dir.edit("model.safetensors", |t| {
        t.get_mut("lm_head.weight").unwrap().add(5, 1e-4);
    });
    let report = compare(&dir.0, 1).unwrap();
    let bad = failing(&report);
    for name in ["logits", "loss_ce", "loss_total", "grad", "step1", "train"] {
        assert!(bad.contains(&name), "{name} passed\n{report}");
    }
    for name in ["hidden", "mid", "router_probs", "final_norm", "loss_aux"] {
        assert!(!bad.contains(&name), "{name} failed\n{report}");
    }
}
#[test]
fn nan_is_never_near_enough() {
    let report = after(|t| t.get_mut("logits").unwrap().add(0, f64::NAN));
    assert_eq!(failing(&report.unwrap()), ["logits"]);
    let report = after(|t| t.get_mut("mid.0").unwrap().add(0, f64::INFINITY));
    assert_eq!(failing(&report.unwrap()), ["mid"]);
}
#[test]
fn what_is_absent_is_not_passed() {
    // Steps and tokens may be absent, and then stand in the report as that.
    let report = after(|t| {
        t.retain(|n, _| !n.starts_with("step2.") && !n.starts_with("gen."));
    });
    let report = report.unwrap();
    assert!(report.ok, "{report}");
    for g in &report.groups {
        let absent = ["step2", "gen.tokens"].contains(&g.name.as_str());
        assert_eq!(g.tensors == 0, absent, "{}", g.name);
        assert_eq!(g.f64.is_none() && g.f32.is_none(), absent, "{}", g.name);
    }
    let text = report.to_string();
    assert_eq!(text.matches("not in this directory").count(), 2, "{text}");
    // All of training may be.
    let report = after(|t| {
        t.retain(|n, _| !n.starts_with("step") && !n.contains("train."));
    });
    assert!(report.unwrap().ok);
    // One gradient is named.
    let report = after(|t| drop(t.remove("grad.lm_head.weight"))).unwrap();
    assert!(report.to_string().contains("grad.lm_head.weight: not in this"));
    // Without these there is no proof.
    for group in ["logits", "loss_ce", "loss_total", "grad"] {
        let report = after(|t| {
            t.retain(|n, _| n != group && !n.starts_with(&format!("{group}.")));
        });
        let report = report.unwrap();
        assert!(!report.ok && report.missing == [group], "{group}\n{report}");
    }
}
#[test]
fn an_unknown_tensor_is_mentioned() {
    let report = after(|t| {
        let t2 = t.remove("mid.0").unwrap();
        t.insert("mad.0".into(), t2);
    });
    let report = report.unwrap();
    assert!(report.ok && report.unknown == ["mad.0"], "{report}");
}
#[test]
fn a_tensor_of_the_wrong_kind_is_an_error() {
    let wrong = |name: &str, change: fn(&mut Tensor)| {
        let said = after(|t| change(t.get_mut(name).unwrap())).unwrap_err();
        assert!(!said.contains('\n') && said.contains(name), "{said}");
        said
    };
    let said = wrong("logits", |t| t.shape = vec![9, 2, 61]);
    assert!(
        said.contains("[9, 2, 61]") && said.contains("[2, 9, 61]"),
        "{said}"
    );
    let said = wrong("logits", |t| t.dtype = Dtype::I64);
    assert!(said.contains("I64") && said.contains("F64"), "{said}");
    let said = wrong("input_ids", |t| t.shape = vec![18]);
    assert!(said.contains("[18]"), "{said}");
    let said = wrong("labels", |t| t.data[1] = 1);
    assert!(said.contains("0 to 60"), "{said}");
    let said = after(|t| drop(t.remove("train.lr"))).unwrap_err();
    assert!(said.contains("train.lr"), "{said}");
}
