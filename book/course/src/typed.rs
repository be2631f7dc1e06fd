//! A formula of TeX in the letters that a terminal has: `\bar x^\top` becomes
//! `x̄ᵀ`.

/// What stands for a command that takes nothing.
const SIGNS: [(&str, &str); 52] = [
    ("Delta", "Δ"),
    ("Lambda", "Λ"),
    ("Longrightarrow", "⟹"),
    ("Omega", "Ω"),
    ("Pi", "Π"),
    ("Rightarrow", "⇒"),
    ("Sigma", "Σ"),
    ("alpha", "α"),
    ("approx", "≈"),
    ("beta", "β"),
    ("bmod", " mod "),
    ("cdot", "·"),
    ("cdots", "⋯"),
    ("dots", "…"),
    ("ell", "ℓ"),
    ("epsilon", "ϵ"),
    ("eta", "η"),
    ("gamma", "γ"),
    ("ge", "≥"),
    ("gg", "≫"),
    ("in", " ∈ "),
    ("infty", "∞"),
    ("kappa", "κ"),
    ("lVert", "‖"),
    ("lambda", "λ"),
    ("langle", "⟨"),
    ("le", "≤"),
    ("leftarrow", " ← "),
    ("lfloor", "⌊"),
    ("lvert", "|"),
    ("mu", "μ"),
    ("odot", "⊙"),
    ("omega", "ω"),
    ("oplus", "⊕"),
    ("pi", "π"),
    ("pm", "±"),
    ("prod", "Π"),
    ("qquad", "   "),
    ("quad", "  "),
    ("rVert", "‖"),
    ("rangle", "⟩"),
    ("rfloor", "⌋"),
    ("rvert", "|"),
    ("sigma", "σ"),
    ("sim", "~"),
    ("sum", "Σ"),
    ("tau", "τ"),
    ("theta", "θ"),
    ("times", "×"),
    ("top", "ᵀ"),
    ("varepsilon", "ε"),
    ("varphi", "φ"),
];
/// Sizes of brackets, which a terminal has not.
const SIZES: [&str; 8] =
    ["bigl", "bigr", "Bigl", "Bigr", "left", "right", "big", "Big"];

/// The formula, a line for each of its own.
pub(crate) fn typed(tex: &str) -> String {
    let mut rest = tex;
    let all = run(&mut rest);
    let lines = all.lines().map(|l| {
        let words: Vec<&str> = l.split_whitespace().collect();
        words.join(" ").replace("( ", "(").replace(" )", ")")
    });
    lines.filter(|l| !l.is_empty()).collect::<Vec<_>>().join("\n")
}
/// Up to the end, or to the brace that closes what was opened before.
fn run(rest: &mut &str) -> String {
    let mut out = String::new();
    while let Some(c) = rest.chars().next() {
        match c {
            '}' => break,
            '^' | '_' => {
                *rest = &rest[1..];
                let to = argument(rest);
                out += &match (c, &to[..]) {
                    ('^', "ᵀ" | "*") => to,
                    ('^', "2") => "²".into(),
                    ('^', "3") => "³".into(),
                    (_, to) if to.chars().all(char::is_alphanumeric) => {
                        format!("{c}{to}")
                    }
                    (_, to) => format!("{c}({})", to.trim()),
                };
            }
            _ => {
                let quotient = ["\\frac", "\\tfrac"];
                let quotient = quotient.iter().any(|q| rest.starts_with(q));
                let next = piece(rest);
                // `cos (a/b)`, not `cos a/b`
                let behind = out.trim_end().ends_with(char::is_alphabetic);
                out += &match quotient && behind {
                    true => format!(" ({next})"),
                    false => next,
                };
            }
        }
    }
    out
}
/// A letter, a command with what it takes, or what stands in braces.
fn piece(rest: &mut &str) -> String {
    let Some(c) = rest.chars().next() else { return String::new() };
    *rest = &rest[c.len_utf8()..];
    match c {
        '\\' => command(rest),
        '{' => {
            let inside = run(rest);
            *rest = rest.strip_prefix('}').unwrap_or(rest);
            inside
        }
        '&' | '\n' | '~' => " ".into(),
        '=' | '+' | '<' | '>' => format!(" {c} "),
        '-' => "−".into(),
        _ => c.into(),
    }
}
fn argument(rest: &mut &str) -> String {
    *rest = rest.trim_start();
    piece(rest)
}
fn command(rest: &mut &str) -> String {
    let letters =
        rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    if letters == 0 {
        let sign = rest.chars().next().unwrap_or(' ');
        *rest = &rest[sign.len_utf8()..];
        return match sign {
            '\\' => "\n".into(),
            '!' => String::new(),
            ',' | ';' | ' ' => " ".into(),
            other => other.into(),
        };
    }
    let name = &rest[..letters];
    *rest = &rest[letters..];
    let over = |x: String, mark: char| {
        let mut letters = x.chars();
        let first = letters.next().unwrap_or(' ');
        format!("{first}{mark}{}", letters.as_str())
    };
    match name {
        "bar" => over(argument(rest), '\u{304}'),
        "hat" => over(argument(rest), '\u{302}'),
        "dot" => over(argument(rest), '\u{307}'),
        "frac" | "tfrac" => {
            let (above, below) = (argument(rest), argument(rest));
            format!("{}/{}", alone(&above), alone(&below))
        }
        "sqrt" => format!("√{}", alone(&argument(rest))),
        "begin" | "end" | "phantom" => {
            argument(rest);
            String::new()
        }
        "underbrace" => {
            let inside = argument(rest);
            if let Some(label) = rest.strip_prefix('_') {
                *rest = label;
                argument(rest);
            }
            inside
        }
        "operatorname" | "text" | "mathcal" | "mathbf" | "mathbb" => {
            argument(rest)
        }
        size if SIZES.contains(&size) => String::new(),
        _ => {
            let sign = SIGNS.iter().find(|(n, _)| *n == name);
            sign.map_or(name.into(), |(_, sign)| sign.to_string())
        }
    }
}
/// In brackets, if it is more than a name or a number.
fn alone(x: &str) -> String {
    let x = x.trim();
    match x.contains(|c: char| " +−·/,".contains(c)) {
        true => format!("({x})"),
        false => x.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::typed;

    #[test]
    fn a_formula_is_typed() {
        let text = |tex: &str| typed(tex);
        let want = "A\u{304} = C\u{304} Bᵀ";
        assert_eq!(text(r"\bar A = \bar C\,B^\top"), want);
        assert_eq!(
            text(r"p_i = \frac{e^{z_i-m}}{\sum_j e^{z_j-m}}"),
            "p_i = (e^(z_i−m))/(Σ_j e^(z_j−m))"
        );
        assert_eq!(
            text(
                "\\begin{aligned}\na &= x W_1, \\\\\nb &= \\tfrac12 y\n\\end{aligned}"
            ),
            "a = x W_1,\nb = 1/2 y"
        );
        assert_eq!(text(r"\sqrt{\tfrac{2}{n_{\text{in}}}}"), "√(2/n_in)");
        assert_eq!(text(r"1 + \cos\frac{\pi n}{S}"), "1 + cos ((π n)/S)");
        assert_eq!(text(r"g\cdot\min\Bigl(1,\;x\Bigr)"), "g·min(1, x)");
    }
}
