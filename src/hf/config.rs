//! Chapter: model. Hugging Face's `config.json`, both ways.

use crate::config::{CURE, Config};
use crate::error::{Error, Result, rule};
use crate::{file, json};
use serde_json::{Map, Value};
use std::path::Path;
use strsim::levenshtein;

/// Fields of a Mixtral `config.json` that a [`Config`] holds.
const READ: [&str; 20] = [
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
    "attention_bias",
    "architectures",
    "tie_word_embeddings",
    "sliding_window",
];
/// Fields that would change what is computed, the values that mean what this
/// model does (absent and null always do), why no other can be taken, and what
/// to do.
const FIXED: [(&str, &[&str], &str, &str); 9] = [
    ("model_type", &["\"mixtral\""], "only Mixtral is built here", CANNOT),
    ("hidden_act", &["\"silu\"", "\"swish\""], "the experts use silu", CANNOT),
    ("mlp_bias", &["false"], "the experts have no biases", CANNOT),
    ("attention_dropout", &["0.0", "0"], "there is no dropout", TRAINING),
    ("router_jitter_noise", &["0.0", "0"], "the router has no noise", TRAINING),
    ("partial_rotary_factor", &["1.0", "1"], "whole heads are rotated", CANNOT),
    ("pad_token_id", &[], "every token's embedding gets a gradient", PAD),
    ("pruned_heads", &["{}"], "no head is pruned", CANNOT),
    ("quantization_config", &[], "weights are plain numbers", PLAIN),
];
/// What to do about a model of another kind: not to call it something else.
const CANNOT: &str =
    "this model cannot be run here, and another value would only hide that";
const TRAINING: &str = "it acts in training alone: with 0 in its place the model computes the same";
const PAD: &str = "it acts in training alone: with null in its place the model computes the \
     same";
const PLAIN: &str = "take the model as it was before it was quantized";
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
    ///     "hidden_act is \"gelu\", but the experts use silu; this model cannot \
    ///      be run here, and another value would only hide that"
    /// );
    /// ```
    pub fn from_json(text: &str) -> Result<Self> {
        let json: Value = json::parse(text.as_bytes()).map_err(|e| {
            let value = format!("not understood ({e})");
            Error::input("the config", value, OBJECT, AS_HF)
        })?;
        let Value::Object(json) = json else {
            return Err(Error::input(
                "the config",
                short(&json),
                OBJECT,
                AS_HF,
            ));
        };
        known(&json)?;
        for (field, allowed, why, cure) in FIXED {
            let value = json.get(field).unwrap_or(&Value::Null);
            let ours = allowed.contains(&value.to_string().as_str());
            rule(value.is_null() || ours, field, short(value), why, cure)?;
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
            tied: flag(&json, "tie_word_embeddings")?,
            attention_bias: flag(&json, "attention_bias")?,
        };
        if json.get("head_dim").is_none_or(Value::is_null) {
            let divides = heads == 0 || hidden.is_multiple_of(heads);
            let why = format!(
                "without head_dim it has to be divisible by \
                 num_attention_heads, which is {heads}"
            );
            rule(divides, "hidden_size", hidden, why, CURE)?;
        }
        config.validate().map_err(|e| say_defaults(e, &json))?;
        window(&json, config.context)?;
        Ok(config)
    }
    /// What [`Config::from_json`] reads, as transformers 4 and 5 read it too;
    /// except that its Mixtral has no biases, and ignores `attention_bias`. It
    /// is never tied: what is saved has a head of its own.
    pub fn to_json(&self) -> String {
        self.to_json_of("float32")
    }
    /// [`Config::to_json`] beside weights of this type.
    pub(crate) fn to_json_of(&self, dtype: &str) -> String {
        let mut json = serde_json::json!({
            "architectures": ["MixtralForCausalLM"],
            "attention_dropout": 0.0,
            "bos_token_id": null, // absent would mean 1
            "dtype": dtype,
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
            "rope_theta": self.rope_theta, // all that transformers 4 reads
            "router_aux_loss_coef": self.aux,
            "router_jitter_noise": 0.0,
            "sliding_window": null,
            "tie_word_embeddings": false,
            "use_cache": true,
            "vocab_size": self.vocab,
        });
        if self.attention_bias {
            json["attention_bias"] = true.into();
        }
        format!("{json:#}\n")
    }
    /// [`Config::from_json`] of a file.
    ///
    /// # Errors
    /// As there, naming the file too; and if it cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let text = file::read(path, file::SMALL)?;
        let there = |what: &str| format!("{what} in {}", path.display());
        let text = String::from_utf8(text).map_err(|e| {
            Error::input(there("the text"), e, "JSON is UTF-8", AS_HF)
        })?;
        Self::from_json(&text).map_err(|e| match e {
            Error::Input { what, value, rule, cure } => {
                Error::input(there(&what), value, rule, cure)
            }
            other => other,
        })
    }
}
const AS_HF: &str = "write it as Hugging Face's Mixtral does";
const OBJECT: &str =
    "a config is one JSON object, {\"vocab_size\": …}, with each name once";
/// Says of each value in an error whether the config has it or it is the
/// default.
fn say_defaults(e: Error, json: &Map<String, Value>) -> Error {
    let Error::Input { what, mut value, mut rule, mut cure } = e else {
        return e;
    };
    for field in READ {
        if json.get(field).is_some_and(|v| !v.is_null()) {
            continue;
        }
        if what == field {
            value += " (the default: the config has none)";
            cure = format!("write the model's own {field} into the config");
        }
        let said = format!("{field}, which is ");
        rule = rule.replace(&said, &format!("{field}, which by default is "));
    }
    Error::Input { what, value, rule, cure }
}
/// A window as long as the context hides nothing.
fn window(json: &Map<String, Value>, context: usize) -> Result<()> {
    let field = "sliding_window";
    let Some(window) = size_or_none(json, field)? else { return Ok(()) };
    let all = format!(
        "attention here sees all earlier positions, and the context is {context}"
    );
    let cure = format!(
        "the same model with max_position_embeddings {window} computes the same \
         up to there"
    );
    rule(window >= context, field, window, all, cure)
}

/// Every field is one that we know.
fn known(json: &Map<String, Value>) -> Result<()> {
    let fixed = FIXED.iter().map(|f| f.0);
    let all = || READ.into_iter().chain(fixed.clone());
    let ignored = |f: &str| IGNORED.split_whitespace().any(|i| i == f);
    for (field, value) in json {
        if all().any(|f| f == field) || ignored(field) {
            continue;
        }
        let near = all().map(|f| (levenshtein(f, short_name(field)), f)).min();
        let cure = match near {
            Some((..=3, near)) => format!("did you mean {near}?"),
            _ => "remove it if it changes nothing".into(),
        };
        let what = format!(
            "the unknown field {}",
            short(&Value::from(field.as_str()))
        );
        let rule = "it might change what is computed";
        return Err(Error::input(what, short(value), rule, cure));
    }
    Ok(())
}
/// A value for a message of one line.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
/// As much of a name as any of ours has, and more.
fn short_name(name: &str) -> &str {
    name.char_indices().nth(60).map_or(name, |(at, _)| &name[..at])
}
/// A whole number, if there is one.
fn size_or_none(
    json: &Map<String, Value>, field: &str,
) -> Result<Option<usize>> {
    match json.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(_) => size(json, field, None).map(Some),
    }
}
/// Yes or no; absent means no.
fn flag(json: &Map<String, Value>, field: &str) -> Result<bool> {
    let value = json.get(field).unwrap_or(&Value::Null);
    let valid = value.is_null() || value.is_boolean();
    rule(valid, field, short(value), "it has to be true or false", CURE)?;
    Ok(value == &Value::Bool(true))
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
    rule(valid.is_some(), field, shown, "it has to be a whole number", CURE)?;
    Ok(valid.unwrap_or_default())
}
/// A real number, or `absent`.
fn number(json: &Map<String, Value>, field: &str, absent: f64) -> Result<f64> {
    let value = json.get(field).unwrap_or(&Value::Null);
    let valid = if value.is_null() { Some(absent) } else { value.as_f64() };
    rule(valid.is_some(), field, short(value), "it has to be a number", CURE)?;
    Ok(valid.unwrap_or_default())
}
const KIND: &str = "the only rotary positions here are the default ones, \
                    {\"rope_theta\": …, \"rope_type\": \"default\"}";
/// The rotary base: at the top level (transformers 4) or one level down (5).
fn rope_theta(json: &Map<String, Value>) -> Result<f64> {
    let mut found = json.get("rope_theta").filter(|v| !v.is_null());
    for parent in ["rope_parameters", "rope_scaling"] {
        let inner = match json.get(parent) {
            None | Some(Value::Null) => continue,
            Some(Value::Object(inner)) => inner,
            Some(other) => {
                return rule(
                    false,
                    parent,
                    short(other),
                    "it is an object",
                    CURE,
                )
                .map(|()| f64::NAN);
            }
        };
        let kind = ["rope_type", "type"].map(|k| (k, inner.get(k)));
        for (name, kind) in kind {
            let kind = kind.unwrap_or(&Value::Null);
            let ours = kind.is_null() || kind == "default";
            let field = format!("{parent}.{name}");
            rule(ours, field, short(kind), KIND, CANNOT)?;
        }
        for (field, value) in inner {
            let full = format!("{parent}.{field}");
            match field.as_str() {
                "rope_theta" => {
                    let first = found.unwrap_or(value);
                    let same = value.as_f64() == first.as_f64();
                    let why = format!("another one says {}", short(first));
                    let cure = "keep the one that the model was trained with";
                    rule(same, full, short(value), why, cure)?;
                    found = Some(value);
                }
                "rope_type" | "type" => {}
                "partial_rotary_factor" if value.as_f64() == Some(1.0) => {}
                _ => rule(false, full, short(value), KIND, CANNOT)?,
            }
        }
    }
    let one = found.map(|v| ("rope_theta".to_string(), v.clone()));
    number(&one.into_iter().collect(), "rope_theta", 1e6)
}
