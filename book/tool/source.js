// The theme that the reader chose in the book, else the system's.
let theme = null;
try { theme = localStorage.getItem("mdbook-theme"); } catch { /* private */ }
theme = theme && theme.replace(/^"|"$/g, "");
const night = matchMedia("(prefers-color-scheme: dark)").matches;
const known = theme && theme !== "default_theme";
const dark = known ? ["navy", "coal", "ayu"].includes(theme) : night;
document.documentElement.classList.toggle("dark", dark);
