//! Chapter: gradcheck. `moe oracle`: what it says, and how it ends.

use crate::edit::Dir;
use crate::start::{End, end, fails, moe, project};
use std::path::Path;

fn oracle(args: &[&Path]) -> End {
    end(moe(["oracle"]).args(args))
}
#[test]
fn the_command_ends_with_0_1_or_2() {
    let good = project("tests/oracle/tiny");
    let bad = Dir::copy_of(&good);
    bad.edit("reference.safetensors", |t| {
        t.get_mut("grad.model.norm.weight").unwrap().add(3, 1e-3);
    });
    let End { code, out, err } = oracle(&[&good]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("logits") && !out.contains("FAIL"), "{out}");
    let End { code, out, .. } = oracle(&[&good, &bad.0]);
    assert_eq!(code, Some(1));
    assert!(out.contains("grad.model.norm.weight[3]"), "{out}");
    let End { code, out, .. } = oracle(&[Path::new("--json"), &good, &bad.0]);
    assert_eq!(code, Some(1));
    let out: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(out["ok"], false);
    assert_eq!(out["directories"][0]["ok"], true);
    assert_eq!(out["directories"][1]["ok"], false);
    let none = "no/such/directory";
    fails(&mut moe(["oracle", none]), &[none]);
}
