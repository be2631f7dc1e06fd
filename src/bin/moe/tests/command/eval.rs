//! Chapter: training. `moe eval`: the loss that the library measures, and what
//! it refuses.

use crate::edit::Dir;
use crate::start::{fails, moe, succeeds, words};
use moe_by_hand::config::Config;
use moe_by_hand::hf;
use moe_by_hand::model::Model;
use moe_by_hand::train::data::Text;
use moe_by_hand::train::validation::Validation;
use std::fs;
use std::process::Command;

#[test]
fn tells_the_loss_in_windows_of_each_length() {
    let dir = Dir::new();
    let text = dir.0.join("text");
    fs::write(&text, "the gate chose an expert, not all. ".repeat(30)).unwrap();
    let tiny = Config::preset("tiny").unwrap();
    let config = Config { vocab: 256, context: 40, init: 0.3, ..tiny };
    let model = Model::new(config).unwrap();
    let p = model.init::<f32>(1);
    hf::save(&dir.0.join("m"), &model, &p).unwrap();
    let eval = |more: &str| -> Command {
        let mut command = moe(words("eval --model m --text text"));
        command.args(words(more)).current_dir(&dir.0);
        command
    };
    let read = Text::read(&text).unwrap();
    let part = read.validation();
    let line = |time: usize| {
        let mut v = Validation::new(&model, part.len(), time);
        let loss = v.loss(&model, &p, part, |_| true).unwrap();
        let n = (part.len() - 1) / time;
        format!("{loss:.4} nats per byte, in {n} windows of {time}\n")
    };
    let both = succeeds(&mut eval("--window 16 --window 40"));
    assert_eq!(both, line(16) + &line(40));
    assert_eq!(succeeds(&mut eval("--window 7 --threads 2")), line(7));
    // What is given by default is more than this model's context.
    fails(&mut eval(""), &["--window is 64", "the model's context is 40"]);
    fails(&mut eval("--window 0"), &["--window is 0", "take 64"]);
    fails(&mut eval("--threads 0"), &["--threads is 0"]);
    fs::write(&text, "the gate chose an expert, not all. ").unwrap();
    let short = ["--window is 16", "last tenth has 4 bytes", "shorter"];
    fails(&mut eval("--window 16"), &short);
    fs::remove_file(&text).unwrap();
    fails(&mut eval("--window 16"), &["text"]);
}
