//! Chapter: scaling-out. Hugging Face's files, both ways, and every way they
//! can be wrong.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::edit::{Dir, Tensor, Tensors};
use moe_by_hand::config::Config;
use moe_by_hand::hf;
use moe_by_hand::model::Model;
use moe_by_hand::params::Params;
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
    assert!(json.starts_with(r#"{"__metadata__":{"format":"pt"},"#), "{json}");
}
#[test]
fn a_file_of_transformers_is_saved_as_the_same_bytes() {
    for name in ["tiny", "gqa-ntk"] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let theirs = root.join("tests/oracle").join(name);
        let (model, p) = hf::load::<f32>(&theirs).unwrap();
        let ours = Dir::new();
        hf::save(&ours.0, &model, &p).unwrap();
        let [ours, theirs] = [&ours.0, &theirs]
            .map(|dir| fs::read(dir.join("model.safetensors")).unwrap());
        assert!(ours == theirs, "{name}");
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
    config("\"silu\"", "\"gelu\"", &["hidden_act", "\"gelu\"", "silu"]);
    config("\"mixtral\"", "\"llama\"", &["model_type", "llama"]);
    config("\"sliding_window\": null", "\"sliding_window\": 4096", &["4096"]);
    config(
        "\"tie_word_embeddings\": false",
        "\"tie_word_embeddings\": true",
        &["tie_word_embeddings", "true"],
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
    config("{", "", &["JSON"]);
    config("{", "[{", &["JSON"]);
    let dir = saved();
    fs::write(dir.0.join("config.json"), [0xff, 0xfe]).unwrap();
    refused(&dir, &["config.json", "UTF-8"]);
    fs::write(dir.0.join("config.json"), "[]").unwrap();
    refused(&dir, &["config.json", "[]", "object"]);
    fs::remove_file(dir.0.join("config.json")).unwrap();
    refused(&dir, &["config.json"]);
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
