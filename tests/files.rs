//! Chapter: scaling-out. Hugging Face's files, both ways, and every way they
//! can be wrong.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::edit::{Dir, Tensor, Tensors};
use moe_by_hand::config::Config;
use moe_by_hand::error::{Error, steers};
use moe_by_hand::half::Bf16;
use moe_by_hand::model::Model;
use moe_by_hand::params::Params;
use moe_by_hand::{file, hf, tensors};
use safetensors::{Dtype, SafeTensors};
use std::fs;
use std::path::Path;

const GATE: &str = "model.layers.1.block_sparse_moe.gate.weight"; // [4, 8]
const KEYS: &str = "model.layers.0.self_attn.k_proj.weight"; // [8, 8]

fn model() -> (Model, Params<f32>) {
    let tiny = Config::preset("tiny").unwrap();
    let config = Config { vocab: 11, hidden: 8, head: 4, kv_heads: 2, ..tiny };
    let config = Config { intermediate: 6, context: 16, ..config };
    let model = Model::new(config).unwrap();
    let p = model.init(7);
    (model, p)
}
fn saved() -> Dir {
    let dir = Dir::new();
    let (model, p) = model();
    hf::save(&dir.0, &model, &p).unwrap();
    dir
}

#[test]
fn a_saved_model_is_read_back_bit_for_bit() {
    let dir = saved();
    let (model, p) = model();
    let (read, q) = hf::load::<f32>(&dir.0).unwrap();
    assert_eq!(read.config, model.config);
    assert_eq!(p, q);
    // the same weights, the same bytes
    let file = |d: &Path| fs::read(d.join("model.safetensors")).unwrap();
    let again = Dir::new();
    hf::save(&again.0.join("made/on/the/way"), &read, &q).unwrap();
    let bytes = file(&dir.0);
    assert_eq!(bytes, file(&again.0.join("made/on/the/way")));
    // and what the library of the ecosystem makes of them
    let theirs = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(theirs.len(), model.layout.entries.len());
    assert_eq!(theirs.tensor(GATE).unwrap().shape(), [4, 8]); // [out, in]
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let json = std::str::from_utf8(&bytes[8..8 + header as usize]).unwrap();
    let start = r#"{"__metadata__":{"format":"pt","sha256":"#;
    assert!(json.starts_with(start), "{json}");
}
/// Whole, and cut off anywhere: the same model, or the same words.
#[test]
fn a_model_in_memory_is_read_as_one_on_disk() {
    let dir = saved();
    let path = dir.0.join("model.safetensors");
    let config = fs::read_to_string(dir.0.join("config.json")).unwrap();
    let whole: &'static [u8] = fs::read(&path).unwrap().leak();
    let read = |bytes| {
        let name = path.to_str().unwrap();
        let read = hf::load_bytes::<f32>(name, &config, bytes);
        read.map(|(m, p)| (m.config, p)).map_err(|e| e.to_string())
    };
    let (m, p) = model();
    assert_eq!(read(whole), Ok((m.config, p)));
    for len in [0, 8, 9, 100, 5000, whole.len() - 1] {
        fs::write(&path, &whole[..len]).unwrap();
        let disk = hf::load::<f32>(&dir.0).map(|_| ());
        let disk = disk.unwrap_err().to_string();
        assert_eq!(read(&whole[..len]), Err(disk));
    }
}
/// A file without the hashes in its header.
fn without_hashes(file: &[u8]) -> Vec<u8> {
    let n = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let mut json = String::from_utf8(file[8..8 + n].to_vec()).unwrap();
    if let Some(from) = json.find(r#","sha256":"#) {
        // One string, which ends with its object.
        let to = from + json[from..].find("}\"").unwrap() + 2;
        json.replace_range(from..to, "");
    }
    let json = json.trim_end();
    let len = json.len().next_multiple_of(8);
    let head = format!("{json:<len$}");
    [&(len as u64).to_le_bytes(), head.as_bytes(), &file[8 + n..]].concat()
}
#[test]
fn a_file_of_transformers_is_saved_as_the_same_bytes_and_hashes() {
    for name in ["tiny", "gqa-ntk"] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let theirs = root.join("tests/oracle").join(name);
        let (model, p) = hf::load::<f32>(&theirs).unwrap();
        let ours = Dir::new();
        hf::save(&ours.0, &model, &p).unwrap();
        let [ours, theirs] = [&ours.0, &theirs]
            .map(|dir| fs::read(dir.join("model.safetensors")).unwrap());
        assert!(without_hashes(&ours) == theirs, "{name}");
    }
}
#[test]
fn every_parameter_has_a_name_of_hugging_faces() {
    for e in &model().0.layout.entries {
        let theirs = hf::hf_name(&e.name);
        assert!(theirs.ends_with(".weight"), "{} is {theirs}", e.name);
    }
    assert_eq!(hf::hf_name("layers.0.other"), "layers.0.other");
}
#[test]
fn heads_are_reordered_and_maps_transposed() {
    let (model, _) = model();
    let find = |name: &str| {
        model.layout.entries.iter().find(|e| e.name == name).unwrap()
    };
    // [in, out] = [8, 8], two heads of 4; the value says where it is
    let ours: Vec<f64> = (0..64).map(f64::from).collect();
    let e = find("layers.0.attention.wk");
    let theirs = hf::to_hf(&ours, e, 4);
    // their row 1 is our column 2 (i + d/2 is the neighbor), input 0, 1, …
    assert_eq!(theirs[8..11], [2.0, 10.0, 18.0]);
    assert_eq!(theirs[2 * 8], 1.0);
    assert_eq!(theirs[5 * 8], 6.0);
    let mut back = vec![0.0; 64];
    hf::from_hf(&mut back, &theirs, e, 4);
    assert_eq!(back, ours);
    // values are not rotated
    let theirs = hf::to_hf(&ours, find("layers.0.attention.wv"), 4);
    assert_eq!(theirs[8..11], [1.0, 9.0, 17.0]);
}
/// `attention_bias` is Llama's: a bias on each of the four maps, those of the
/// queries and keys in the order of their rows.
#[test]
fn biases_are_saved_under_their_names_and_read_back() {
    let config = Config { head: 8, attention_bias: true, ..model().0.config };
    let model = Model::new(config).unwrap();
    let (mut p, len) = (model.init::<f32>(7), model.layout.len);
    assert_eq!(len as u64, model.config.total());
    for e in model.layout.entries.iter().filter(|e| e.shape.len() == 1) {
        let first = e.param.range().start as f32; // each says where it is
        let values = p[e.param].iter_mut().enumerate();
        values.for_each(|(i, v)| *v = first + i as f32);
    }
    let dir = Dir::new();
    hf::save(&dir.0, &model, &p).unwrap();
    let (read, q) = hf::load::<f32>(&dir.0).unwrap();
    assert_eq!((&read.config, &q), (&model.config, &p));
    let bytes = fs::read(dir.0.join("model.safetensors")).unwrap();
    let theirs = SafeTensors::deserialize(&bytes).unwrap();
    for (ours, name, order) in [
        ("bq", "q_proj", [0, 2, 4, 6, 1, 3, 5, 7]), // the first head
        ("bk", "k_proj", [0, 2, 4, 6, 1, 3, 5, 7]),
        ("bv", "v_proj", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("bo", "o_proj", [0, 1, 2, 3, 4, 5, 6, 7]),
    ] {
        let ours = model.layout.find(&format!("layers.1.attention.{ours}"));
        let ours = &p[ours.unwrap().param];
        let name = format!("model.layers.1.self_attn.{name}.bias");
        let t = theirs.tensor(&name).unwrap();
        assert_eq!(t.shape(), [ours.len()], "{name}");
        let number = |b: &[u8]| f32::from_le_bytes(b.try_into().unwrap());
        let t: Vec<f32> = t.data().chunks(4).map(number).collect();
        let want = order.map(|i| ours[i]);
        assert_eq!(t[..8], want, "{name}");
    }
    // Without the field, no bias has a place.
    let path = dir.0.join("config.json");
    let json = fs::read_to_string(&path).unwrap();
    fs::write(&path, json.replace("\"attention_bias\": true,", "")).unwrap();
    refused(&dir, &["_proj.bias", "unknown tensor"]);
}
/// What becomes ∞ in the file, or is no number, is named before any file is
/// touched.
#[test]
fn a_weight_that_the_file_cannot_hold_is_refused() {
    let dir = saved();
    let files = || {
        ["config.json", "model.safetensors"]
            .map(|name| fs::read(dir.0.join(name)).unwrap())
    };
    let before = files();
    let (model, p) = model();
    let said = |dtype, p: &Params<f32>| {
        let error = hf::save_as(dtype, &dir.0, &model, p).unwrap_err();
        assert_eq!((error.exit_code(), files() == before), (2, true));
        error.to_string()
    };
    let gate = model.layout.find("layers.1.moe.router.w").unwrap().param;
    let with = |x: f32| {
        let mut p = p.clone();
        p[gate][6] = x; // [1, 2] of [in, out]
        p
    };
    let place = format!("{GATE}[2, 1], to be written to ");
    let largest = Bf16::LARGEST.f32();
    for x in [f32::MAX, f32::MIN, largest.next_up() * 1.002] {
        let said = said(Dtype::BF16, &with(x));
        assert!(said.starts_with(&place) && !said.contains('\n'), "{said}");
        for words in [&format!(" is {}", f64::from(x)), "BF16", "save in f32"] {
            assert!(said.contains(words), "{words}: {said}");
        }
    }
    for x in [f32::NAN, f32::NEG_INFINITY] {
        for dtype in [Dtype::F32, Dtype::BF16] {
            let said = said(dtype, &with(x));
            assert!(said.contains("has to be a finite number"), "{said}");
        }
    }
    // f64s that f32 does not have
    let mut wide = model.layout.zeros::<f64>();
    wide[gate][6] = 1e39;
    let error = hf::save(&dir.0, &model, &wide).unwrap_err().to_string();
    assert!(error.contains("F32 has no number that large"), "{error}");
    assert!(files() == before, "nothing is lost");
    // The largest there is, and what is rounded to it, are written.
    for (dtype, x) in [(Dtype::F32, f32::MAX), (Dtype::BF16, largest.next_up())]
    {
        hf::save_as(dtype, &dir.0, &model, &with(x)).unwrap();
        let (_, q) = hf::load::<f32>(&dir.0).unwrap();
        let x = if dtype == Dtype::F32 { x } else { largest };
        assert_eq!(q[gate][6], x);
    }
}
/// Each half of a type's patterns: sign, small, large.
#[test]
fn halves_and_doubles_are_read() {
    let dir = saved();
    let set = |dtype, data: Vec<u8>| {
        dir.edit("model.safetensors", |t| {
            let shape = vec![8];
            t.insert("model.norm.weight".into(), Tensor { dtype, shape, data });
        });
        let (m, p) = hf::load::<f64>(&dir.0).unwrap();
        let norm = m.layout.entries.iter().find(|e| e.name == "norm.gain");
        p[norm.unwrap().param].to_vec()
    };
    // 1, −2, the largest, the smallest normal, the smallest, 0, −0, 1/3
    let bits = [0x3c00, 0xc000, 0x7bff, 0x0400, 1, 0, 0x8000, 0x3555u16];
    let third = 1365.0 / 4096.0;
    let want = [1.0, -2.0, 65504.0, 0.5f64.powi(14), 0.5f64.powi(24)];
    let f16 = set(Dtype::F16, bits.map(u16::to_le_bytes).concat());
    assert_eq!(f16, [&want[..], &[0.0, 0.0, third]].concat());
    assert!(f16[6].is_sign_negative());
    let bits = [0x3f80, 0xc000, 0x4049, 0, 0x7f7f, 1, 0x8000, 0x3eabu16];
    let bf16 = set(Dtype::BF16, bits.map(u16::to_le_bytes).concat());
    assert_eq!(bf16[..4], [1.0, -2.0, 3.140625, 0.0]);
    assert_eq!(bf16[4], f64::from(f32::from_bits(0x7f7f_0000)));
    let numbers = [0.1f64; 8];
    assert_eq!(
        set(Dtype::F64, numbers.map(f64::to_le_bytes).concat()),
        numbers
    );
}

/// What is said of the saved model after a change to its tensors: one line
/// that names the file and what else is asked for.
#[track_caller]
fn says(change: impl FnOnce(&mut Tensors), names: &[&str]) {
    let dir = saved();
    dir.edit("model.safetensors", change);
    refused(&dir, &[&["model.safetensors"], names].concat());
}
#[track_caller]
fn refused(dir: &Dir, names: &[&str]) {
    let e = hf::load::<f32>(&dir.0).map(|_| ()).unwrap_err();
    let said = e.to_string();
    assert_eq!(e.exit_code(), 2, "{said}");
    assert!(!said.contains('\n'), "{said}");
    for name in names {
        assert!(said.contains(name), "no {name} in: {said}");
    }
}
fn get<'a>(t: &'a mut Tensors, name: &str) -> &'a mut Tensor {
    t.get_mut(name).unwrap()
}
#[test]
fn wrong_tensors_are_named() {
    says(|t| drop(t.remove(GATE)), &[GATE, "missing", "[4, 8]"]);
    says(|t| get(t, GATE).shape = vec![8, 4], &[GATE, "[8, 4]", "[4, 8]"]);
    says(|t| get(t, GATE).shape = vec![32], &[GATE, "[32]", "[4, 8]"]);
    says(|t| get(t, GATE).dtype = Dtype::I32, &[GATE, "I32", "F32"]);
    says(
        |t| {
            let gate = t.remove(GATE).unwrap();
            t.insert(GATE.into(), Tensor { dtype: Dtype::I64, ..gate });
            get(t, GATE).data.resize(256, 0);
        },
        &[GATE, "I64", "F64, F32, BF16, F16"],
    );
    says(|t| get(t, GATE).add(9, f64::NAN), &[GATE, "[1, 1]", "NaN"]);
    says(|t| get(t, KEYS).add(1, f64::INFINITY), &[KEYS, "[0, 1]", "inf"]);
    // finite in the file, but not in f32
    says(
        |t| {
            let norm = get(t, "model.norm.weight");
            norm.dtype = Dtype::F64;
            norm.data = [1e300f64; 8].map(f64::to_le_bytes).concat();
        },
        &["model.norm.weight", "[0]", "inf"],
    );
    let more =
        || Tensor { dtype: Dtype::F32, shape: vec![1], data: vec![0; 4] };
    says(|t| drop(t.insert("lm_head.bias".into(), more())), &["lm_head.bias"]);
    says(|t| drop(t.insert("a\nb".into(), more())), &["a\\nb"]);
    says(|t| t.clear(), &["model.embed_tokens.weight", "missing"]);
}
#[test]
fn a_file_that_is_not_what_its_header_says_is_refused() {
    let dir = saved();
    let path = dir.0.join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    let header = 8 + whole[0] as usize + 256 * whole[1] as usize;
    for len in [0, 7, 8, 100, header - 1, header, whole.len() - 1] {
        fs::write(&path, &whole[..len]).unwrap();
        let is = format!("{len} bytes");
        refused(&dir, &["model.safetensors", &is, "copy it again"]);
    }
    fs::write(&path, [&whole[..], b"more"].concat()).unwrap();
    refused(&dir, &["model.safetensors", "bytes"]);
    // A header that claims to be huge must not be believed.
    for claim in [u64::MAX, u64::MAX - 8, 1 << 40, whole.len() as u64 - 7] {
        let bytes = [&claim.to_le_bytes(), &whole[8..]].concat();
        fs::write(&path, bytes).unwrap();
        refused(&dir, &["model.safetensors", &claim.to_string()]);
    }
    // Nor a tensor that claims more than there is, or overlaps another.
    let text = |json: &str| {
        let n = (json.len() as u64).to_le_bytes();
        [&n, json.as_bytes(), &[0; 8]].concat()
    };
    for json in [
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,9]}}"#,
        r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#,
        r#"{"a":{"dtype":"F32","shape":[4611686018427387905],
            "data_offsets":[0,8]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
            "b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}}"#,
        r#"{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#,
        "[1, 2]",
        "{",
    ] {
        fs::write(&path, text(json)).unwrap();
        refused(&dir, &["model.safetensors"]);
    }
    // no UTF-8
    let bytes = [&2u64.to_le_bytes()[..], &[0xff, 0xfe]].concat();
    fs::write(&path, bytes).unwrap();
    refused(&dir, &["model.safetensors"]);
    fs::remove_file(&path).unwrap();
    refused(&dir, &["model.safetensors"]);
    fs::create_dir(&path).unwrap();
    refused(&dir, &["model.safetensors"]);
}
#[test]
fn a_model_that_cannot_fit_is_refused_before_it_is_allocated() {
    let dir = saved();
    let (model, _) = model();
    let huge = Config { vocab: 1 << 30, hidden: 1 << 20, ..model.config };
    fs::write(dir.0.join("config.json"), huge.to_json()).unwrap();
    if moe_by_hand::memory::available().is_some() {
        refused(&dir, &["memory", "model.safetensors", "available"]);
    }
}

/// What is said of `config.json` after a replacement in its text.
#[track_caller]
fn config(from: &str, to: &str, names: &[&str]) {
    let dir = saved();
    let json = model().0.config.to_json();
    assert!(json.contains(from), "{from} in {json}");
    let path = dir.0.join("config.json");
    fs::write(&path, json.replacen(from, to, 1)).unwrap();
    refused(&dir, &[&["config.json"], names].concat());
}
#[test]
fn wrong_configs_are_explained() {
    let whole = "whole number";
    config("\"hidden_size\": 8", "\"hidden_size\": 8.0", &["8.0", whole]);
    config("\"hidden_size\": 8", "\"hidden_size\": -8", &["-8", whole]);
    config("\"hidden_size\": 8", "\"hidden_size\": \"8\"", &["\"8\"", whole]);
    config("\"hidden_size\": 8", "\"hidden_size\": null", &["null", whole]);
    config("\"hidden_size\": 8", "\"hidden_size\": 1e30", &["1e+30", whole]);
    config("\"hidden_size\": 8", "\"hidden_size\": 0", &["hidden_size", "0"]);
    config("\"hidden_size\": 8,", "", &["hidden_size", "missing"]);
    config("hidden_size", "hiden_size", &["hiden_size", "hidden_size?"]);
    config("use_cache", "number_of_cows", &["number_of_cows", "unknown"]);
    config("use_cache", "a\\nb", &["a\\nb"]);
    let cannot = "cannot be run here";
    config("\"silu\"", "\"gelu\"", &["hidden_act", "\"gelu\"", "silu", cannot]);
    config("\"mixtral\"", "\"llama\"", &["model_type", "llama", cannot]);
    config(
        "\"attention_dropout\": 0.0",
        "\"attention_dropout\": 0.1",
        &["0.1"],
    );
    config("\"pad_token_id\": null", "\"pad_token_id\": 0", &["in training"]);
    let window = |n: &str| format!("\"sliding_window\": {n}");
    let null = &window("null");
    config(null, &window("15"), &["sliding_window", "15", "context is 16"]);
    config(null, &window("-1"), &["sliding_window", "-1", whole]);
    config(
        "\"tie_word_embeddings\": false",
        "\"tie_word_embeddings\": 1",
        &["tie_word_embeddings", "true or false"],
    );
    config(
        "\"use_cache\"",
        "\"attention_bias\": \"yes\", \"use_cache\"",
        &["attention_bias", "\"yes\"", "true or false"],
    );
    config("\"head_dim\": 4", "\"head_dim\": 3", &["head_dim", "3", "even"]);
    config(
        "\"num_key_value_heads\": 2",
        "\"num_key_value_heads\": 3",
        &["num_key_value_heads", "3", "num_attention_heads"],
    );
    config(
        "\"num_experts_per_tok\": 2",
        "\"num_experts_per_tok\": 5",
        &["num_experts_per_tok", "5", "which is 4"],
    );
    config("10000.0", "\"many\"", &["rope_theta", "\"many\"", "number"]);
    config("10000.0", "-1", &["rope_theta", "-1", "positive"]);
    let more =
        |text: &str| format!("\"rope_parameters\": {text}, \"use_cache\"");
    config("\"use_cache\"", &more(r#"{"rope_type": "yarn"}"#), &["yarn"]);
    config("\"use_cache\"", &more(r#"{"factor": 2}"#), &["factor"]);
    config("\"use_cache\"", &more(r#"{"rope_theta": 5}"#), &["10000.0", "5"]);
    config("\"use_cache\"", &more("7"), &["rope_parameters", "7"]);
    config("\"use_cache\"", &more(r#"{"rope_type": "linear"}"#), &[cannot]);
    let named = |name: &str| r#""use_cache""#.replace("use_cache", name);
    config(
        &named("use_cache"),
        r#""rope_scaling": {"type": "dynamic",
        "factor": 2.0}, "use_cache""#,
        &["rope_scaling.type", "dynamic"],
    );
    config("{", "", &["JSON"]);
    config("{", "[{", &["JSON"]);
    // which of the two counts, readers do not agree
    config("{", "{\"vocab_size\": 12,", &["\"vocab_size\" stands twice"]);
    config(
        "\"use_cache\"",
        &more(r#"{"rope_theta": 1e4, "rope_theta": 1e4}"#),
        &["\"rope_theta\" stands twice"],
    );
    // a loss in f32, and weights that no forward pass survives
    let aux = "\"router_aux_loss_coef\": ";
    config(
        &format!("{aux}0.01"),
        &format!("{aux}1e39"),
        &["router_aux", "f32"],
    );
    let init = "\"initializer_range\": ";
    config(
        &format!("{init}0.02"),
        &format!("{init}1e9"),
        &["initializer_range"],
    );
    let dir = saved();
    fs::write(dir.0.join("config.json"), [0xff, 0xfe]).unwrap();
    refused(&dir, &["config.json", "UTF-8"]);
    fs::write(dir.0.join("config.json"), "[]").unwrap();
    refused(&dir, &["config.json", "[]", "object"]);
    fs::remove_file(dir.0.join("config.json")).unwrap();
    refused(&dir, &["config.json"]);
}
/// A value that the config does not have is called a default, and the cure is to
/// write the model's own, not another one.
#[test]
fn a_default_is_called_a_default() {
    let with = |more: &str| {
        let text = format!(
            r#"{{"vocab_size": 11, "hidden_size": 64, "num_hidden_layers": 2,
                "num_attention_heads": 4, "intermediate_size": 6{more}}}"#
        );
        Config::from_json(&text).unwrap_err().to_string()
    };
    // Absent key heads are Mixtral's 8; null means as many as query heads.
    let kv_heads = |heads: usize, more: &str| {
        let text = format!(
            r#"{{"vocab_size": 11, "hidden_size": 64, "num_hidden_layers": 2,
                "num_attention_heads": {heads}, "intermediate_size": 6{more}}}"#
        );
        Config::from_json(&text).unwrap().kv_heads
    };
    assert_eq!(kv_heads(16, ""), 8);
    assert_eq!(kv_heads(16, r#", "num_key_value_heads": null"#), 16);
    assert_eq!(kv_heads(4, r#", "num_key_value_heads": null"#), 4);
    let said = with("");
    let parts = "num_key_value_heads is 8 (the default: the config has none)";
    assert!(said.starts_with(parts), "{said}");
    assert!(!said.contains("correct it"), "{said}");
    let said = with(r#", "num_key_value_heads": 2, "num_experts_per_tok": 9"#);
    assert!(
        said.contains("num_local_experts, which by default is 8"),
        "{said}"
    );
}
/// 0.7 kB that asked for 3 GB and a minute.
#[test]
fn a_config_of_many_small_matrices_is_refused_by_their_number() {
    let ours = model().0.config;
    let (layers, experts) = (1_000_000, 1_000_000);
    for many in [
        Config { layers, ..ours.clone() },
        Config { experts, ..ours.clone() },
        Config { layers: 1 << 30, experts: 1 << 30, ..ours.clone() },
    ] {
        let n = many.tensors();
        assert!(n > 1 << 20, "{n}");
        let said = many.validate().unwrap_err().to_string();
        assert!(said.contains(&n.to_string()), "{said}");
        let said = Config::from_json(&many.to_json()).unwrap_err();
        assert!(said.to_string().contains("num_hidden_layers"), "{said}");
    }
}
#[test]
fn a_window_as_long_as_the_context_hides_nothing() {
    let config = model().0.config;
    let json = config.to_json();
    for window in ["16", "17", "4096"] {
        let to = format!("\"sliding_window\": {window}");
        let json = json.replace("\"sliding_window\": null", &to);
        assert_eq!(Config::from_json(&json).unwrap(), config);
    }
}
#[test]
fn an_index_that_does_not_fit_its_files_is_refused() {
    let sharded = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sharded = sharded.join("tests/oracle/sharded");
    let index = "model.safetensors.index.json";
    let text = fs::read_to_string(sharded.join(index)).unwrap();
    let first = "model-00001-of-00002.safetensors";
    let said = |from: &str, to: &str, names: &[&str]| {
        let dir = Dir::copy_of(&sharded);
        assert!(text.contains(from), "{from}");
        let all = if from == first { usize::MAX } else { 1 };
        fs::write(dir.0.join(index), text.replacen(from, to, all)).unwrap();
        refused(&dir, names);
    };
    let norm = "\"model.norm.weight\"";
    said("{", "", &[index, "JSON"]);
    said("\"weight_map\"", "\"map\"", &[index, "weight_map"]);
    said(norm, "\"other.weight\"", &[index, "model.norm.weight", "nothing"]);
    said("{", "{\"weight_map\": {},", &[index, "stands twice"]);
    said(first, "no/such", &[index, "no/such", "beside"]);
    said(first, "../sharded/x", &[index, "beside"]);
    said(first, "..", &[index, "beside"]);
    said(first, "no-such", &["no-such", "No such file"]);
    said(norm, "\"a\\nb\": \"no-such\", \"model.norm.weight\"", &["no-such"]);
    let more = format!("\"a\\nb\": \"{first}\", {norm}");
    said(norm, &more, &[index, "a\\nb", "does not hold"]);
    // one file of the two
    let dir = Dir::copy_of(&sharded);
    fs::remove_file(dir.0.join(first)).unwrap();
    refused(&dir, &[first]);
    // a tensor in both
    let dir = Dir::copy_of(&sharded);
    let mut taken = None;
    dir.edit("model-00002-of-00002.safetensors", |t| {
        taken = t.remove("model.norm.weight");
    });
    dir.edit(first, |t| {
        drop(t.insert("model.norm.weight".into(), taken.unwrap()))
    });
    refused(&dir, &[index, "model.norm.weight"]);
}
#[test]
fn joined_experts_have_to_be_whole() {
    let fused =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/fused");
    let up = "model.layers.1.mlp.experts.gate_up_proj"; // [4, 36, 12]
    let says = |change: &dyn Fn(&mut Tensors), names: &[&str]| {
        let dir = Dir::copy_of(&fused);
        dir.edit("model.safetensors", |t| change(t));
        refused(&dir, names);
    };
    says(&|t| get(t, up).shape = vec![4, 12, 36], &[up, "[4, 36, 12]"]);
    says(&|t| get(t, up).add(2 * 36 * 12 + 5, f64::NAN), &[up, "[2, 0, 5]"]);
    says(&|t| drop(t.remove(up)), &["experts.0.w1", "missing"]);
    // single ones beside them: which count?
    says(
        &|t| {
            let shape = vec![18, 12];
            let one = Tensor { dtype: Dtype::F32, shape, data: vec![0; 864] };
            let name = "model.layers.1.block_sparse_moe.experts.0.w1.weight";
            t.insert(name.into(), one);
        },
        &[],
    );
}
#[test]
fn a_tied_head_that_differs_is_refused() {
    let dir = saved();
    let json = model().0.config.to_json();
    let tied = json.replace("embeddings\": false", "embeddings\": true");
    fs::write(dir.0.join("config.json"), tied).unwrap();
    refused(&dir, &["lm_head.weight[0, 0]", "ties"]);
    let embed = "model.embed_tokens.weight";
    dir.edit("model.safetensors", |t| {
        let data = t[embed].data.clone();
        get(t, "lm_head.weight").data = data;
    });
    hf::load::<f32>(&dir.0).unwrap();
}
#[test]
fn files_that_are_not_read_say_what_they_are() {
    for (name, part) in [
        ("pytorch_model.bin", "save_pretrained"),
        ("pytorch_model.bin.index.json", "save_pretrained"),
        ("pytorch_model-00001-of-00002.bin", "pickle"),
        ("consolidated.00.pth", "pickle"),
        ("mixtral.Q4.gguf", "llama.cpp"),
    ] {
        let dir = saved();
        fs::remove_file(dir.0.join("model.safetensors")).unwrap();
        fs::write(dir.0.join(name), "x").unwrap();
        refused(&dir, &[name, part]);
    }
}
#[test]
fn old_rotary_frequencies_in_a_file_change_nothing() {
    let dir = saved();
    dir.edit("model.safetensors", |t| {
        let (shape, data) = (vec![2], vec![0; 8]);
        let name = "model.layers.0.self_attn.rotary_emb.inv_freq";
        t.insert(name.into(), Tensor { dtype: Dtype::F32, shape, data });
    });
    hf::load::<f32>(&dir.0).unwrap();
}
/// A header may be as long as its file, and a file that is all hole as long as it
/// likes.
#[cfg(unix)]
#[test]
fn a_file_of_nothing_but_a_claim_takes_no_memory() {
    let dir = saved();
    let path = dir.0.join("model.safetensors");
    for claim in [100_000_001u64, 1 << 40] {
        fs::write(&path, [&claim.to_le_bytes()[..], b"{"].concat()).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_len(claim + 8).unwrap();
        refused(&dir, &["model.safetensors", "100000000"]);
    }
    // nor does a tensor that the file really is long enough for
    let n = 1u64 << 42;
    let header = format!(
        r#"{{"model.embed_tokens.weight":{{"dtype":"F32","shape":[{}],
        "data_offsets":[0,{n}]}}}}"#,
        n / 4
    );
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()];
    fs::write(&path, bytes.concat()).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(8 + header.len() as u64 + n).unwrap();
    refused(&dir, &["model.embed_tokens.weight"]);
    let file = tensors::Tensors::open(&path).unwrap();
    let shape = [n as usize / 4];
    let said = file.floats::<f32>("model.embed_tokens.weight", &shape);
    assert!(said.unwrap_err().to_string().contains("memory"));
}
/// What is no ordinary file is refused at once, wherever it is given.
#[cfg(target_os = "linux")]
#[test]
fn only_ordinary_files_are_opened() {
    let dir = saved();
    let pipe = dir.0.join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let kmsg = Path::new("/proc/kmsg");
    let others = ["/dev/zero", "/dev/tty", "/proc/self/status", "/dev"];
    let others = others.map(Path::new).into_iter().chain([&*pipe, kmsg]);
    for path in others {
        for name in ["config.json", "model.safetensors"] {
            let dir = saved();
            fs::remove_file(dir.0.join(name)).unwrap();
            std::os::unix::fs::symlink(path, dir.0.join(name)).unwrap();
            refused(&dir, &[name]);
        }
        let said = file::read(path, file::ANY).unwrap_err().to_string();
        assert!(said.contains(&path.display().to_string()), "{said}");
    }
    let path = dir.0.join("config.json");
    let said = file::read(&path, 10).unwrap_err().to_string();
    assert!(said.contains("at most 10 bytes"), "{said}");
    let empty = dir.0.join("empty");
    fs::write(&empty, "").unwrap();
    assert_eq!(file::read(&empty, 0).unwrap(), b"");
}
/// Names and values from outside cannot break the line, or reach a terminal.
#[test]
fn an_error_is_one_plain_line() {
    let evil = "a\nb\r\x1b[2J\u{9b}\u{202e}\u{2028}";
    let e = Error::input(evil, evil, evil, evil);
    let io = Error::io(evil, std::io::Error::other(evil), evil);
    for said in [e.to_string(), io.to_string()] {
        assert!(!said.contains(steers), "{said:?}");
        assert!(
            said.contains(r"a\nb\r\u{1b}[2J\u{9b}\u{202e}\u{2028}"),
            "{said}"
        );
    }
    let dir = saved();
    dir.edit("model.safetensors", |t| {
        get(t, GATE).add(9, f64::NAN);
    });
    let strange = dir.0.join("a\nb");
    fs::create_dir(&strange).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::rename(dir.0.join(name), strange.join(name)).unwrap();
    }
    let said = hf::load::<f32>(&strange).map(|_| ()).unwrap_err().to_string();
    assert!(said.contains(r"a\nb") && !said.contains('\n'), "{said}");
}
#[test]
fn what_transformers_writes_is_read() {
    let config = model().0.config;
    let json = config.to_json();
    // transformers 5
    let five = json.replace(
        "\"rope_theta\": 10000.0",
        r#""rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}"#,
    );
    assert_eq!(Config::from_json(&five).unwrap(), config);
    // both, as long as they agree; and old names of the default
    let scaling = r#""rope_scaling": {"type": "default"}, "rope_parameters""#;
    let both = five.replace("\"rope_parameters\"", scaling);
    let both =
        both.replace("\"use_cache\"", "\"rope_theta\": 1e4, \"use_cache\"");
    assert_eq!(Config::from_json(&both).unwrap(), config);
    // Mixtral's defaults
    let short = r#"{"vocab_size": 11, "hidden_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 16, "intermediate_size": 6}"#;
    let short = Config::from_json(short).unwrap();
    assert_eq!((short.head, short.kv_heads, short.experts), (4, 8, 8));
    assert_eq!((short.top_k, short.context), (2, 131_072));
    assert_eq!((short.rope_theta, short.rms_eps), (1e6, 1e-5));
    assert_eq!((short.aux, short.init), (0.001, 0.02));
}
