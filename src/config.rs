//! Chapter: model. The sizes of a model, the rules between them, and Hugging
//! Face's `config.json`.

use crate::error::{Error, Result};
use crate::file;
use crate::nn::rope::ntk_base;
use serde_json::{Map, Value, json};
use std::fmt::Display;
use std::path::Path;

/// Everything that decides what a model computes, apart from its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// V, tokens in the vocabulary.
    pub vocab: usize,
    /// D, width of the residual stream.
    pub hidden: usize,
    /// L, blocks.
    pub layers: usize,
    /// H, query heads.
    pub heads: usize,
    /// K, key/value heads.
    pub kv_heads: usize,
    /// Columns of a head.
    pub head: usize,
    /// E, experts in each block.
    pub experts: usize,
    /// k, experts for each token.
    pub top_k: usize,
    /// F, width of an expert.
    pub intermediate: usize,
    /// The longest sequence, in tokens.
    pub context: usize,
    /// ε of the root mean square.
    pub rms_eps: f64,
    /// Base of the rotary frequencies, NTK scaling included.
    pub rope_theta: f64,
    /// Coefficient of the balance loss.
    pub aux: f64,
    /// Standard deviation of initial weights.
    pub init: f64,
}

impl Config {
    /// Names of the presets.
    pub const PRESETS: [&str; 4] = ["tiny", "small", "bytes", "moe_6_9b"];

    /// A preset by its name.
    ///
    /// # Errors
    /// If there is none of that name.
    ///
    /// ```
    /// use moe_by_hand::config::Config;
    /// let of = |name| Config::preset(name).map(|c| (c.total(), c.active()));
    /// assert_eq!(of("tiny").unwrap(), (345_920, 247_616));
    /// assert_eq!(of("moe_6_9b").unwrap(), (6_882_678_528, 1_786_599_168));
    /// // The others by the formula, spelled out:
    /// // 2VD + D + L·(2·H·d·D + 2·K·d·D + 3·E·F·D + E·D + 2D).
    /// let count = |[v, d, l, h, k, dh, e, f]: [u64; 8]| {
    ///     let attention = 2 * h * dh * d + 2 * k * dh * d;
    ///     2 * v * d + d + l * (attention + 3 * e * f * d + e * d + 2 * d)
    /// };
    /// let small = count([1000, 256, 2, 4, 1, 64, 4, 512]);
    /// assert_eq!(of("small").unwrap().0, small);
    /// let bytes = count([256, 128, 4, 4, 1, 32, 8, 256]);
    /// assert_eq!(of("bytes").unwrap().0, bytes);
    /// let idle = 4 * 6 * 3 * 256 * 128; // 6 of 8 experts in 4 blocks
    /// assert_eq!(of("bytes").unwrap().1, bytes - idle);
    /// ```
    pub fn preset(name: &str) -> Result<Self> {
        let tiny = Self {
            vocab: 1000,
            hidden: 64,
            layers: 2,
            heads: 4,
            kv_heads: 1,
            head: 16,
            experts: 4,
            top_k: 2,
            intermediate: 128,
            context: 512,
            rms_eps: 1e-5,
            rope_theta: 1e4,
            aux: 0.01,
            init: 0.02,
        };
        Ok(match name {
            "tiny" => tiny,
            "small" => {
                Self { hidden: 256, head: 64, intermediate: 512, ..tiny }
            }
            "bytes" => Self {
                vocab: 256,
                hidden: 128,
                layers: 4,
                head: 32,
                experts: 8,
                intermediate: 256,
                context: 256,
                ..tiny
            },
            "moe_6_9b" => Self {
                vocab: 32_000,
                hidden: 768,
                layers: 30,
                heads: 12,
                head: 64,
                experts: 16,
                top_k: 4,
                intermediate: 6144,
                context: 32_768,
                rope_theta: ntk_base(1e4, 8.0, 64),
                ..tiny
            },
            _ => {
                let known = Self::PRESETS.join(", ");
                let rule = "there is no preset of that name";
                return Err(Error::input(
                    "the preset",
                    format!("`{name}`"),
                    rule,
                    format!("choose one of {known}"),
                ));
            }
        })
    }

    /// Parameters in all.
    pub fn total(&self) -> u64 {
        self.count(self.experts)
    }
    /// Parameters that one token uses: k experts in each block, and
    /// everything else.
    pub fn active(&self) -> u64 {
        self.count(self.top_k)
    }
    /// 2VD + D + L·(2HdD + 2KdD + 3eFD + ED + 2D) with e experts in use;
    /// saturates where a u64 is too small.
    fn count(&self, experts: usize) -> u64 {
        let of = |n: usize| n as u128;
        let (d, heads) = (of(self.hidden), of(self.heads) + of(self.kv_heads));
        let attention = 2 * heads * of(self.head);
        let expert = 3 * of(experts) * of(self.intermediate);
        let block = attention + expert + of(self.experts) + 2;
        let all = d * (2 * of(self.vocab) + 1 + of(self.layers) * block);
        all.try_into().unwrap_or(u64::MAX)
    }

    /// Looks at every relation between the sizes.
    ///
    /// # Errors
    /// Names the first field that breaks a rule, its value, and the rule.
    pub fn validate(&self) -> Result<()> {
        let sizes = [
            ("vocab_size", self.vocab),
            ("hidden_size", self.hidden),
            ("num_hidden_layers", self.layers),
            ("num_attention_heads", self.heads),
            ("num_key_value_heads", self.kv_heads),
            ("head_dim", self.head),
            ("num_local_experts", self.experts),
            ("num_experts_per_tok", self.top_k),
            ("intermediate_size", self.intermediate),
            ("max_position_embeddings", self.context),
        ];
        // Far above any model, and far below where a product overflows.
        const MOST: usize = 1 << 31;
        for (field, value) in sizes {
            rule(value > 0, field, value, "a size is at least 1")?;
            rule(value < MOST, field, value, "a size is below 2147483648")?;
        }
        let heads = self.heads.is_multiple_of(self.kv_heads);
        rule(
            heads,
            "num_key_value_heads",
            self.kv_heads,
            format!(
                "it has to divide num_attention_heads, which is {}",
                self.heads
            ),
        )?;
        rule(
            self.head.is_multiple_of(2),
            "head_dim",
            self.head,
            "rotary positions turn pairs, so it has to be even",
        )?;
        rule(
            self.top_k <= self.experts,
            "num_experts_per_tok",
            self.top_k,
            format!(
                "it is at most num_local_experts, which is {}",
                self.experts
            ),
        )?;
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let at_least_0 = |x: f64| x >= 0.0 && x.is_finite();
        let number = "it has to be a positive number";
        let coefficient = "it has to be a number of at least 0";
        rule(
            at_least_0(self.rms_eps),
            "rms_norm_eps",
            self.rms_eps,
            coefficient,
        )?;
        rule(positive(self.rope_theta), "rope_theta", self.rope_theta, number)?;
        let aux = self.aux;
        rule(at_least_0(aux), "router_aux_loss_coef", aux, coefficient)?;
        rule(at_least_0(self.init), "initializer_range", self.init, coefficient)
    }
}
fn rule(
    holds: bool, field: &str, value: impl Display, rule: impl Display,
) -> Result<()> {
    let cure = "correct it in the config";
    if holds { Ok(()) } else { Err(Error::input(field, value, rule, cure)) }
}

/// Fields of a Mixtral `config.json` that a [`Config`] holds.
const READ: [&str; 17] = [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "num_local_experts",
    "num_experts_per_tok",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_parameters",
    "rope_scaling",
    "router_aux_loss_coef",
    "initializer_range",
    "architectures",
];
/// Fields that would change what is computed, the values that mean what this
/// model does (absent and null always do), and why no other can be taken.
const FIXED: [(&str, &[&str], &str); 12] = [
    ("model_type", &["\"mixtral\""], "only Mixtral is built here"),
    ("hidden_act", &["\"silu\"", "\"swish\""], "the experts use silu"),
    ("tie_word_embeddings", &["false"], "the head has weights of its own"),
    ("sliding_window", &[], "attention sees all earlier positions"),
    ("attention_bias", &["false"], "no linear map has a bias"),
    ("mlp_bias", &["false"], "no linear map has a bias"),
    ("attention_dropout", &["0.0", "0"], "there is no dropout"),
    ("router_jitter_noise", &["0.0", "0"], "the router has no noise"),
    ("partial_rotary_factor", &["1.0", "1"], "whole heads are rotated"),
    ("pad_token_id", &[], "every token's embedding gets a gradient"),
    ("pruned_heads", &["{}"], "no head is pruned"),
    ("quantization_config", &[], "weights are plain numbers"),
];
/// Fields that transformers 4 or 5 writes and that change no number here.
const IGNORED: &str = "\
    _name_or_path add_cross_attention bad_words_ids begin_suppress_tokens \
    bos_token_id chunk_size_feed_forward cross_attention_hidden_size \
    decoder_start_token_id diversity_penalty do_sample dtype early_stopping \
    encoder_no_repeat_ngram_size eos_token_id \
    exponential_decay_length_penalty finetuning_task forced_bos_token_id \
    forced_eos_token_id id2label is_decoder is_encoder_decoder label2id \
    length_penalty max_length min_length no_repeat_ngram_size \
    num_beam_groups num_beams num_return_sequences output_attentions \
    output_hidden_states output_router_logits output_scores prefix \
    problem_type remove_invalid_values repetition_penalty return_dict \
    return_dict_in_generate sep_token_id suppress_tokens \
    task_specific_params temperature tf_legacy_loss tie_encoder_decoder \
    tokenizer_class top_k top_p torch_dtype torchscript \
    transformers_version typical_p use_bfloat16 use_cache";

impl Config {
    /// Reads Hugging Face's Mixtral `config.json`, as transformers 4 or 5
    /// writes it. What is absent has Mixtral's default; the first five sizes
    /// have none.
    ///
    /// # Errors
    /// If it is no JSON, has an unknown field, a value of the wrong kind, one
    /// that asks for another computation than ours, or breaks a rule of
    /// [`Config::validate`]; each names field, value and rule.
    ///
    /// ```
    /// use moe_by_hand::config::Config;
    /// let tiny = Config::preset("tiny").unwrap();
    /// assert_eq!(Config::from_json(&tiny.to_json()).unwrap(), tiny);
    /// let wrong = tiny.to_json().replace("\"silu\"", "\"gelu\"");
    /// assert_eq!(
    ///     Config::from_json(&wrong).unwrap_err().to_string(),
    ///     "hidden_act is \"gelu\", but the experts use silu; correct it in \
    ///      the config"
    /// );
    /// ```
    pub fn from_json(text: &str) -> Result<Self> {
        let json: Value = serde_json::from_str(text).map_err(|e| {
            let cure = "write it as Hugging Face's Mixtral does";
            Error::input("the config", format!("no JSON: {e}"), OBJECT, cure)
        })?;
        let Value::Object(json) = json else {
            let cure = "write it as Hugging Face's Mixtral does";
            return Err(Error::input("the config", short(&json), OBJECT, cure));
        };
        known(&json)?;
        for (field, allowed, why) in FIXED {
            let value = json.get(field).unwrap_or(&Value::Null);
            let ours = allowed.contains(&value.to_string().as_str());
            rule(value.is_null() || ours, field, short(value), why)?;
        }
        let heads = size(&json, "num_attention_heads", None)?;
        let hidden = size(&json, "hidden_size", None)?;
        // null: as many as query heads; absent: Mixtral's default
        let kv = json.get("num_key_value_heads").map_or(8, |_| heads);
        let config = Self {
            vocab: size(&json, "vocab_size", None)?,
            hidden,
            layers: size(&json, "num_hidden_layers", None)?,
            heads,
            kv_heads: size(&json, "num_key_value_heads", Some(kv))?,
            head: size(&json, "head_dim", Some(hidden / heads.max(1)))?,
            experts: size(&json, "num_local_experts", Some(8))?,
            top_k: size(&json, "num_experts_per_tok", Some(2))?,
            intermediate: size(&json, "intermediate_size", None)?,
            context: size(&json, "max_position_embeddings", Some(131_072))?,
            rms_eps: number(&json, "rms_norm_eps", 1e-5)?,
            rope_theta: rope_theta(&json)?,
            aux: number(&json, "router_aux_loss_coef", 0.001)?,
            init: number(&json, "initializer_range", 0.02)?,
        };
        if json.get("head_dim").is_none_or(Value::is_null) {
            let divides = heads == 0 || hidden.is_multiple_of(heads);
            let why = format!(
                "without head_dim it has to be divisible by \
                 num_attention_heads, which is {heads}"
            );
            rule(divides, "hidden_size", hidden, why)?;
        }
        config.validate()?;
        Ok(config)
    }
    /// What [`Config::from_json`] reads, as transformers 4 and 5 read it too.
    pub fn to_json(&self) -> String {
        let json = json!({
            "architectures": ["MixtralForCausalLM"],
            "attention_dropout": 0.0,
            "bos_token_id": null, // absent would mean 1
            "dtype": "float32",
            "eos_token_id": null, // absent would mean 2
            "head_dim": self.head,
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "initializer_range": self.init,
            "intermediate_size": self.intermediate,
            "max_position_embeddings": self.context,
            "model_type": "mixtral",
            "num_attention_heads": self.heads,
            "num_experts_per_tok": self.top_k,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "num_local_experts": self.experts,
            "output_router_logits": false,
            "pad_token_id": null,
            "rms_norm_eps": self.rms_eps,
            "rope_theta": self.rope_theta, // 4 overlooks rope_parameters
            "router_aux_loss_coef": self.aux,
            "router_jitter_noise": 0.0,
            "sliding_window": null,
            "tie_word_embeddings": false,
            "use_cache": true,
            "vocab_size": self.vocab,
        });
        format!("{json:#}\n")
    }
    /// [`Config::from_json`] of a file.
    ///
    /// # Errors
    /// As there, naming the file too; and if it cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let text = file::read(path)?;
        let of = |what: &str| format!("{what} in {}", path.display());
        let text = String::from_utf8(text).map_err(|e| {
            let cure = "write it as Hugging Face's Mixtral does";
            Error::input(of("the text"), e, "JSON is UTF-8", cure)
        })?;
        Self::from_json(&text).map_err(|e| match e {
            Error::Input { what, value, rule, cure } => {
                Error::input(of(&what), value, rule, cure)
            }
            other => other,
        })
    }
}
const OBJECT: &str = "a config is one JSON object, {\"vocab_size\": …}";

/// Every field is one that we know.
fn known(json: &Map<String, Value>) -> Result<()> {
    let fixed = FIXED.iter().map(|f| f.0);
    let all = || READ.into_iter().chain(fixed.clone());
    let ignored = |f: &str| IGNORED.split_whitespace().any(|i| i == f);
    for (field, value) in json {
        if all().any(|f| f == field) || ignored(field) {
            continue;
        }
        let cure = match all().min_by_key(|f| distance(f, field)) {
            Some(near) if distance(near, field) <= 3 => {
                format!("did you mean {near}?")
            }
            _ => "remove it if it changes nothing".into(),
        };
        let what = format!("the unknown field {}", short(&json!(field)));
        let rule = "it might change what is computed";
        return Err(Error::input(what, short(value), rule, cure));
    }
    Ok(())
}
/// How many letters have to be changed, put in or left out (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &b) in b.iter().enumerate() {
            let change = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
/// A value for a message of one line.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
/// A size; `absent` is its value where the field or its value is missing.
fn size(
    json: &Map<String, Value>, field: &str, absent: Option<usize>,
) -> Result<usize> {
    let value = json.get(field).unwrap_or(&Value::Null);
    let given = value.as_u64().and_then(|n| n.try_into().ok());
    let valid = if value.is_null() { absent } else { given };
    let shown =
        if json.contains_key(field) { &short(value) } else { "missing" };
    rule(valid.is_some(), field, shown, "it has to be a whole number")?;
    Ok(valid.unwrap_or_default())
}
/// A real number, or `absent`.
fn number(json: &Map<String, Value>, field: &str, absent: f64) -> Result<f64> {
    let value = json.get(field).unwrap_or(&Value::Null);
    let valid = if value.is_null() { Some(absent) } else { value.as_f64() };
    rule(valid.is_some(), field, short(value), "it has to be a number")?;
    Ok(valid.unwrap_or_default())
}
/// The rotary base: at the top level (transformers 4) or one level down (5).
fn rope_theta(json: &Map<String, Value>) -> Result<f64> {
    let mut found = json.get("rope_theta").filter(|v| !v.is_null());
    for parent in ["rope_parameters", "rope_scaling"] {
        let inner = match json.get(parent) {
            None | Some(Value::Null) => continue,
            Some(Value::Object(inner)) => inner,
            Some(other) => {
                return rule(false, parent, short(other), "it is an object")
                    .map(|()| f64::NAN);
            }
        };
        for (field, value) in inner {
            let ours = match field.as_str() {
                "rope_theta" => {
                    value.as_f64() == found.unwrap_or(value).as_f64()
                }
                "rope_type" | "type" => value == "default" || value.is_null(),
                "partial_rotary_factor" => value.as_f64() == Some(1.0),
                _ => false,
            };
            let why = match (field.as_str(), found) {
                ("rope_theta", Some(v)) => format!("another one says {v}"),
                _ => "the only rotary positions here are the default ones, \
                      {\"rope_theta\": …, \"rope_type\": \"default\"}"
                    .into(),
            };
            rule(ours, &format!("{parent}.{field}"), short(value), why)?;
            if field == "rope_theta" {
                found = Some(value);
            }
        }
    }
    let one = found.map(|v| ("rope_theta".to_string(), v.clone()));
    number(&one.into_iter().collect(), "rope_theta", 1e6)
}
