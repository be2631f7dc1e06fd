//! The book as an EPUB, made of the built pages: MathML for the formulas, and
//! every link alive, those to the sources too.

use crate::chapters::{Chapter, chapters};
use crate::text::{escape, hex, html};
use anyhow::{Context, Result};
use regex::{Captures, Regex};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// The title, as `book.toml` has it.
const TITLE: &str = "Mixture of Experts, by Hand";
/// EPUB asks for a date. It is always this, so that two builds are the same.
const DATE: &str = "2026-01-01T00:00:00Z";

/// A document of the book: its name, and its text.
struct Document {
    name: String,
    text: String,
}

/// Writes the EPUB of the project at `root`, whose pages lie in `pages`.
pub fn write(root: &Path, pages: &Path, file: &Path) -> Result<()> {
    let chapters = chapters(root)?;
    let mut documents = Vec::new();
    for chapter in &chapters {
        let page = html(&chapter.file);
        let text = fs::read_to_string(pages.join(&page))
            .with_context(|| page.clone())?;
        let main = between(&text, "<main>", "</main>")
            .with_context(|| format!("{page} has no <main>"))?;
        let title = &chapter.title;
        documents.push(Document {
            name: page.replace(".html", ".xhtml"),
            text: document(title, "", &xhtml(main, &chapters)?),
        });
    }
    let folder = pages.join("source");
    for name in registry::files(&folder, "", "html")? {
        let text = fs::read_to_string(folder.join(&name))?;
        let body = between(&text, "<body>", "</body>")
            .with_context(|| format!("{name} has no <body>"))?;
        let name = format!("source/{}", name.replace(".html", ".xhtml"));
        let up = "../".repeat(name.matches('/').count());
        let body = xhtml(body, &chapters)?;
        let title = name.trim_start_matches("source/");
        let title = title.trim_end_matches(".xhtml");
        let text = document(
            title,
            &up,
            &format!("<div class=\"sources\">{body}</div>"),
        );
        documents.push(Document { name, text });
    }
    let mut zip = Zip::default();
    zip.add("mimetype", b"application/epub+zip");
    zip.add("META-INF/container.xml", CONTAINER.as_bytes());
    zip.add("book/package.opf", package(&documents).as_bytes());
    let nav = navigation(root, &chapters)?;
    zip.add("book/nav.xhtml", nav.as_bytes());
    zip.add("book/epub.css", include_bytes!("epub.css"));
    zip.add("book/cover.svg", cover().as_bytes());
    let picture = format!(
        "<div class=\"cover\"><img src=\"cover.svg\" alt=\"{TITLE}\"/></div>"
    );
    zip.add("book/cover.xhtml", document(TITLE, "", &picture).as_bytes());
    for Document { name, text } in &documents {
        zip.add(&format!("book/{name}"), text.as_bytes());
    }
    Ok(fs::write(file, zip.finish())?)
}

const CONTAINER: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<container version=\"1.0\" xmlns=\"urn:oasis:names:tc:opendocument:xmlns:container\">
<rootfiles><rootfile full-path=\"book/package.opf\" media-type=\"application/oebps-package+xml\"/></rootfiles>
</container>
";

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    Some(rest.rsplit_once(end)?.0)
}

fn document(title: &str, up: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE html>\n\
         <html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\" \
         xml:lang=\"en\">\n<head><title>{title}</title>\
         <link rel=\"stylesheet\" type=\"text/css\" href=\"{up}epub.css\"/>\
         </head>\n<body>\n{body}\n</body>\n</html>\n"
    )
}

/// HTML of a page as XML, with the MathML of each formula and without its
/// picture.
fn xhtml(html: &str, chapters: &[Chapter]) -> Result<String> {
    let text = mended(&without_pictures(html)?)?;
    let void = Regex::new(r"<(br|hr|img|input|col|wbr)\b([^>]*?)\s*/?>")?;
    let text = void.replace_all(&text, "<$1$2/>");
    let svg = Regex::new(r"<svg\b([^>]*)>")?;
    let text = svg.replace_all(&text, |c: &Captures| {
        let rest = c[1].replace("viewbox=", "viewBox=");
        match rest.contains("xmlns=") {
            true => format!("<svg{rest}>"),
            false => {
                format!("<svg xmlns=\"http://www.w3.org/2000/svg\"{rest}>")
            }
        }
    });
    let bare = Regex::new(
        r"<(details|input)([^>]*) (open|disabled|checked)(=\x22\x22)?",
    )?;
    let text = bare.replace_all(&text, "<$1$2 $3=\"$3\"");
    // Links from page to page: the chapters, and the sources.
    let link = Regex::new(r#"href="([^":#]*?)\.html(#[^"]*)?""#)?;
    let known = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or(path);
        path.contains(".rs")
            || name == "index"
            || chapters.iter().any(|c| c.slug() == name)
    };
    let first = chapters.first().context("there is no chapter")?.slug();
    let text = link.replace_all(&text, |c: &Captures| {
        let anchor = c.get(2).map_or("", |a| a.as_str());
        if !known(&c[1]) {
            return c[0].to_string();
        }
        let path = match c[1].strip_suffix("index") {
            Some(folder) => format!("{folder}{first}"),
            None => c[1].to_string(),
        };
        format!("href=\"{path}.xhtml{anchor}\"")
    });
    Ok(text.into_owned())
}

/// What KaTeX writes and MathML does not allow: the invisible sign of a function
/// among the parts of an index, and `mod` as a row of letters in one sign.
fn mended(html: &str) -> Result<String> {
    let text = html.replace("<mo>\u{2061}</mo>", "");
    let row =
        Regex::new("<mo([^>]*)><mrow>((?:<mi[^>]*>[^<]*</mi>)+)</mrow></mo>")?;
    let tag = Regex::new("<[^>]*>")?;
    let text = row.replace_all(&text, |c: &Captures| {
        format!("<mo{}>{}</mo>", &c[1], tag.replace_all(&c[2], ""))
    });
    Ok(text.into_owned())
}

/// Takes out each `<span class="katex-html" …>`, with all that is inside.
fn without_pictures(html: &str) -> Result<String> {
    let begin = "<span class=\"katex-html\"";
    let mut out = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(at) = rest.find(begin) {
        out += &rest[..at];
        rest = &rest[at..];
        let (mut depth, mut end) = (0usize, 0);
        loop {
            let open = rest[end..].find("<span");
            let close = rest[end..].find("</span>");
            match (open, close) {
                (Some(o), Some(c)) if o < c => {
                    (depth, end) = (depth + 1, end + o + "<span".len());
                }
                (_, Some(c)) => {
                    (depth, end) = (depth - 1, end + c + "</span>".len());
                }
                _ => anyhow::bail!("a formula's picture has no end"),
            }
            if depth == 0 {
                break;
            }
        }
        rest = &rest[end..];
    }
    Ok(out + rest)
}

fn package(documents: &[Document]) -> String {
    let mut hash = Sha256::new();
    documents.iter().for_each(|d| hash.update(&d.text));
    let id = &hex(&hash.finalize())[..32];
    let (mut manifest, mut spine) = (String::new(), String::new());
    for (n, Document { name, text }) in documents.iter().enumerate() {
        let mut has = Vec::new();
        has.extend(text.contains("<math").then_some("mathml"));
        has.extend(text.contains("<svg").then_some("svg"));
        let has = match has[..] {
            [] => String::new(),
            _ => format!(" properties=\"{}\"", has.join(" ")),
        };
        let _ = writeln!(
            manifest,
            "<item id=\"d{n}\" href=\"{name}\" \
             media-type=\"application/xhtml+xml\"{has}/>"
        );
        let linear = match name.starts_with("source/") {
            true => " linear=\"no\"",
            false => "",
        };
        let _ = writeln!(spine, "<itemref idref=\"d{n}\"{linear}/>");
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <package xmlns=\"http://www.idpf.org/2007/opf\" version=\"3.0\" \
         unique-identifier=\"id\" xml:lang=\"en\">\n\
         <metadata xmlns:dc=\"http://purl.org/dc/elements/1.1/\">\n\
         <dc:identifier id=\"id\">urn:sha256:{id}</dc:identifier>\n\
         <dc:title>{TITLE}</dc:title>\n<dc:language>en</dc:language>\n\
         <meta property=\"dcterms:modified\">{DATE}</meta>\n</metadata>\n\
         <manifest>\n\
         <item id=\"nav\" href=\"nav.xhtml\" \
         media-type=\"application/xhtml+xml\" properties=\"nav\"/>\n\
         <item id=\"css\" href=\"epub.css\" media-type=\"text/css\"/>\n\
         <item id=\"picture\" href=\"cover.svg\" media-type=\"image/svg+xml\" \
         properties=\"cover-image\"/>\n\
         <item id=\"cover\" href=\"cover.xhtml\" \
         media-type=\"application/xhtml+xml\"/>\n{manifest}</manifest>\n\
         <spine>\n<itemref idref=\"cover\"/>\n<itemref idref=\"nav\"/>\n\
         {spine}</spine>\n</package>\n"
    )
}

/// The list of parts and chapters.
fn navigation(root: &Path, chapters: &[Chapter]) -> Result<String> {
    let summary = registry::read(root, "book/src/SUMMARY.md")?;
    let (mut list, mut open) = (String::new(), false);
    for line in summary.lines().skip(1) {
        if let Some(part) = line.strip_prefix("# ") {
            list += if open { "</ol></li>\n" } else { "" };
            open = true;
            let part = escape(part.trim());
            let _ = writeln!(list, "<li><span>{part}</span><ol>");
            continue;
        }
        let of = |c: &&Chapter| line.contains(&format!("({})", c.file));
        if let Some(chapter) = chapters.iter().find(of) {
            let page = html(&chapter.file).replace(".html", ".xhtml");
            let number = chapter.number.map(|n| format!("{n}. "));
            let (number, title) =
                (number.unwrap_or_default(), escape(&chapter.title));
            let _ = writeln!(
                list,
                "<li><a href=\"{page}\">{number}{title}</a></li>"
            );
        }
    }
    list += if open { "</ol></li>\n" } else { "" };
    let body = format!(
        "<nav epub:type=\"toc\" id=\"toc\">\n<h1>Contents</h1>\n<ol>\n{list}\
         </ol>\n</nav>"
    );
    Ok(document("Contents", "", &body).replacen(
        "<html ",
        "<html xmlns:epub=\"http://www.idpf.org/2007/ops\" ",
        1,
    ))
}

fn cover() -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 600 800\" \
         width=\"600\" height=\"800\">\
         <rect width=\"600\" height=\"800\" fill=\"#161923\"/>\
         <g fill=\"#fff\" font-family=\"sans-serif\" text-anchor=\"middle\">\
         <text x=\"300\" y=\"300\" font-size=\"56\">Mixture</text>\
         <text x=\"300\" y=\"370\" font-size=\"56\">of Experts,</text>\
         <text x=\"300\" y=\"440\" font-size=\"56\">by Hand</text></g>\
         <g fill=\"none\" stroke=\"#8fb8ff\" stroke-width=\"3\">\
         <path d=\"M120 560H480M300 560V500\"/>\
         <rect x=\"100\" y=\"560\" width=\"80\" height=\"50\"/>\
         <rect x=\"260\" y=\"560\" width=\"80\" height=\"50\"/>\
         <rect x=\"420\" y=\"560\" width=\"80\" height=\"50\"/></g>\
         <title>{TITLE}</title></svg>\n"
    )
}

/// A zip file whose parts are stored as they are.
#[derive(Default)]
struct Zip {
    bytes: Vec<u8>,
    directory: Vec<u8>,
    count: u16,
}
impl Zip {
    fn add(&mut self, name: &str, data: &[u8]) {
        let at = self.bytes.len() as u32;
        let size = (data.len() as u32).to_le_bytes();
        let mut head = Vec::new();
        head.extend([10, 0]); // version that is needed: 1.0
        head.extend(0x0800u16.to_le_bytes()); // names are UTF-8
        head.extend([0, 0]); // stored
        head.extend([0, 0, 0x21, 0]); // 1980-01-01
        head.extend(crc(data).to_le_bytes());
        head.extend(size);
        head.extend(size);
        head.extend((name.len() as u16).to_le_bytes());
        head.extend([0, 0]); // nothing more
        self.bytes.extend(b"PK\x03\x04");
        self.bytes.extend(&head);
        self.bytes.extend(name.as_bytes());
        self.bytes.extend(data);
        self.directory.extend(b"PK\x01\x02");
        self.directory.extend([10, 0]);
        self.directory.extend(&head);
        self.directory.extend([0; 10]); // comment, disk, attributes
        self.directory.extend(at.to_le_bytes());
        self.directory.extend(name.as_bytes());
        self.count += 1;
    }

    fn finish(mut self) -> Vec<u8> {
        let (at, size) = (self.bytes.len() as u32, self.directory.len() as u32);
        self.bytes.extend(&self.directory);
        self.bytes.extend(b"PK\x05\x06");
        self.bytes.extend([0; 4]);
        self.bytes.extend(self.count.to_le_bytes());
        self.bytes.extend(self.count.to_le_bytes());
        self.bytes.extend(size.to_le_bytes());
        self.bytes.extend(at.to_le_bytes());
        self.bytes.extend([0, 0]);
        self.bytes
    }
}

/// The checksum of zip files, CRC-32.
fn crc(data: &[u8]) -> u32 {
    let mut sum = !0u32;
    for byte in data {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            let low = sum & 1;
            sum = (sum >> 1) ^ (0xedb8_8320 * low);
        }
    }
    !sum
}

#[cfg(test)]
mod tests {
    use super::{crc, mended, without_pictures};

    #[test]
    fn a_checksum_is_that_of_zip() {
        assert_eq!(crc(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn mathml_is_mended() -> anyhow::Result<()> {
        let html = "<msub><mi>d</mi><mi>min</mi><mo>\u{2061}</mo></msub>\
                    <mo l=\"1\"><mrow><mi a=\"b\">m</mi><mi>o</mi></mrow></mo>";
        let want = "<msub><mi>d</mi><mi>min</mi></msub><mo l=\"1\">mo</mo>";
        assert_eq!(mended(html)?, want);
        Ok(())
    }

    #[test]
    fn a_formula_keeps_its_words_alone() -> anyhow::Result<()> {
        let html = "a<span class=\"katex\"><i>m</i><span class=\"katex-html\" \
                    x><span>p<span>q</span></span></span></span> b";
        let want = "a<span class=\"katex\"><i>m</i></span> b";
        assert_eq!(without_pictures(html)?, want);
        assert!(without_pictures("<span class=\"katex-html\">").is_err());
        Ok(())
    }
}
