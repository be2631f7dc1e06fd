//! Chapter: model. The sizes of a model, and the rules between them.

use crate::error::{Error, Result, rule};
use crate::nn::rope::ntk_base;
use std::fmt::Display;

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
    /// Whether a file of this model may hold the embedding alone, and means
    /// that the head is the same numbers. They are copied when it is read; from
    /// then on the two are two parameters.
    pub tied: bool,
    /// Whether attention's four maps have a bias.
    pub attention_bias: bool,
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
    /// let counts = |name| Config::preset(name).map(|c| (c.total(), c.active()));
    /// assert_eq!(counts("tiny").unwrap(), (345_920, 247_616));
    /// assert_eq!(counts("moe_6_9b").unwrap(), (6_882_678_528, 1_786_599_168));
    /// // The others by the formula, spelled out:
    /// // 2VD + D + L·(2·H·d·D + 2·K·d·D + 3·E·F·D + E·D + 2D).
    /// let count = |[v, d, l, h, k, dh, e, f]: [u64; 8]| {
    ///     let attention = 2 * h * dh * d + 2 * k * dh * d;
    ///     2 * v * d + d + l * (attention + 3 * e * f * d + e * d + 2 * d)
    /// };
    /// let small = count([1000, 256, 2, 4, 1, 64, 4, 512]);
    /// assert_eq!(counts("small").unwrap().0, small);
    /// let bytes = count([256, 128, 4, 4, 1, 32, 8, 256]);
    /// assert_eq!(counts("bytes").unwrap().0, bytes);
    /// let idle = 4 * 6 * 3 * 256 * 128; // 6 of 8 experts in 4 blocks
    /// assert_eq!(counts("bytes").unwrap().1, bytes - idle);
    /// // Biases add L·((H + 2K)·d + D).
    /// let mut tiny = Config::preset("tiny").unwrap();
    /// tiny.attention_bias = true;
    /// assert_eq!(tiny.total(), 345_920 + 2 * ((4 + 2) * 16 + 64));
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
            tied: false,
            attention_bias: false,
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
    /// 2VD + D + L·(2HdD + 2KdD + 3eFD + ED + 2D) with e experts in use, and
    /// the biases; saturates where a u64 is too small.
    fn count(&self, experts: usize) -> u64 {
        let wide = |n: usize| n as u128;
        let heads = wide(self.heads) + wide(self.kv_heads);
        let attention = 2 * heads * wide(self.head);
        let expert = 3 * wide(experts) * wide(self.intermediate);
        let block = attention + expert + wide(self.experts) + 2;
        let rows = 2 * wide(self.vocab) + 1 + wide(self.layers) * block;
        let all = wide(self.hidden) * rows + self.biases();
        all.try_into().unwrap_or(u64::MAX)
    }
    /// The elements of all biases: L·((H + 2K)·d + D), or 0.
    pub(crate) fn biases(&self) -> u128 {
        let wide = |n: usize| n as u128;
        let heads = wide(self.heads) + 2 * wide(self.kv_heads);
        let block = heads * wide(self.head) + wide(self.hidden);
        if self.attention_bias { wide(self.layers) * block } else { 0 }
    }

    /// Entries of the table of θ: matrices, gains and biases.
    pub fn tensors(&self) -> u64 {
        let [l, e] = [self.layers, self.experts].map(|n| n as u128);
        let biases = if self.attention_bias { 4 } else { 0 };
        (3 + l * (7 + biases + 3 * e)).try_into().unwrap_or(u64::MAX)
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
            let rule = |holds, of_it| rule(holds, field, value, of_it, CURE);
            rule(value > 0, "a size is at least 1")?;
            rule(value < MOST, "a size is below 2147483648")?;
        }
        let (heads, experts) = (self.heads, self.experts);
        let divides =
            format!("it has to divide num_attention_heads, which is {heads}");
        let at_most =
            format!("it is at most num_local_experts, which is {experts}");
        let positive = "it has to be a positive number";
        let at_least_0 = "it has to be a number of at least 0";
        let coefficient = "it has to be a number of at least 0 that f32 holds";
        let number = |x: f64| x >= 0.0 && x.is_finite();
        let (eps, theta) = (self.rms_eps, self.rope_theta);
        let (aux, init) = (self.aux, self.init);
        let rules: [(bool, &str, &dyn Display, &str); 7] = [
            (
                heads.is_multiple_of(self.kv_heads),
                "num_key_value_heads",
                &self.kv_heads,
                &divides,
            ),
            (
                self.head.is_multiple_of(2),
                "head_dim",
                &self.head,
                "rotary positions turn pairs, so it has to be even",
            ),
            (
                self.top_k <= experts,
                "num_experts_per_tok",
                &self.top_k,
                &at_most,
            ),
            (number(eps), "rms_norm_eps", &eps, at_least_0),
            (number(theta) && theta > 0.0, "rope_theta", &theta, positive),
            (in_f32(aux), "router_aux_loss_coef", &aux, coefficient),
            (
                number(init) && init <= MOST_INIT,
                "initializer_range",
                &init,
                "a standard deviation of weights is 0 to 100; 0.02 is usual",
            ),
        ];
        rules.into_iter().try_for_each(|(holds, field, value, of_it)| {
            rule(holds, field, value, of_it, CURE)
        })?;
        // Each matrix has a name and a place in a table, however small it is.
        const MOST_TENSORS: u64 = 1 << 20;
        let (l, n) = (self.layers, self.tensors());
        let many = format!(
            "with num_local_experts {experts} that makes {n} matrices and \
             gains, and {MOST_TENSORS} are the most"
        );
        let (layers, cure) = ("num_hidden_layers", "take a smaller model");
        rule(n <= MOST_TENSORS, layers, l, many, cure)
    }
}
/// Whether it is a coefficient of a loss, also in f32.
pub(crate) fn in_f32(x: f64) -> bool {
    x >= 0.0 && (x as f32).is_finite()
}
/// Beyond, the first forward pass may exceed f32.
const MOST_INIT: f64 = 100.0;
/// What to do about a field that breaks a rule.
pub(crate) const CURE: &str = "correct it in the config";
