//! Chapter: training. Text as tokens: here a token is a byte.

/// Tokens of byte text: 0 to 255.
pub const BYTES: usize = 256;

/// The tokens of a text: its bytes in UTF-8.
///
/// ```
/// assert_eq!(moe_by_hand::tokens::encode("é!"), [0xc3, 0xa9, 0x21]);
/// ```
pub fn encode(text: &str) -> Vec<usize> {
    text.bytes().map(usize::from).collect()
}

/// Text that a model wrote, for a terminal: control characters, which might
/// steer it, are shown as U+FFFD, but for the end of a line and the tab.
///
/// ```
/// use moe_by_hand::tokens::harmless;
/// assert_eq!(harmless("a\tb\n\x1b[2J\x07"), "a\tb\n\u{fffd}[2J\u{fffd}");
/// ```
pub fn harmless(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\t' => c,
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(shown).collect()
}

/// Turns tokens that are bytes into text as they come: a character leaves
/// when it is whole, and a byte that is no UTF-8 as U+FFFD.
///
/// ```
/// use moe_by_hand::tokens::Characters;
/// let mut text = Characters::default();
/// assert_eq!(text.push(0xc3), ""); // the first half of é
/// assert_eq!(text.push(0xa9), "é");
/// assert_eq!(text.push(300), "<300>"); // no byte
/// assert_eq!(text.push(0xc3), "");
/// assert_eq!(text.finish(), "\u{fffd}");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Characters {
    /// The beginning of a character.
    part: Vec<u8>,
    out: String,
}
impl Characters {
    /// Takes one token; returns what can be shown now.
    pub fn push(&mut self, token: usize) -> &str {
        self.out.clear();
        match u8::try_from(token) {
            Ok(byte) => self.byte(byte),
            Err(_) => {
                self.give_up();
                self.out += &format!("<{token}>");
            }
        }
        &self.out
    }
    /// What is left when nothing more comes.
    pub fn finish(&mut self) -> &str {
        self.out.clear();
        self.give_up();
        &self.out
    }
    fn byte(&mut self, byte: u8) {
        self.part.push(byte);
        match std::str::from_utf8(&self.part) {
            Ok(whole) => {
                self.out += whole;
                self.part.clear();
            }
            Err(e) if e.error_len().is_none() => {} // may still become one
            Err(_) => {
                let begun = self.part.len() > 1;
                self.give_up();
                if begun {
                    self.byte(byte); // not part of what was given up
                }
            }
        }
    }
    fn give_up(&mut self) {
        if !self.part.is_empty() {
            self.out.push(char::REPLACEMENT_CHARACTER);
            self.part.clear();
        }
    }
}
